"""A repository of generated images on disk: pictures, masks and one table of rows.

Promises: images stream to disk, whole or not at all; a killed run goes on where it stopped; a shard is a
range of indices that any machine can draw, and the shards together are the whole, byte for byte; every
row names all that its image follows from (`redraw.py` draws it again). A folder may grow and be sharded
anew: it ends as if drawn at once (`table.py`). A folder drawn from another model, seed or request is refused.
Files that are gone or changed since their rows were written are drawn anew.
Where an index of training pictures is given, a picture too near to one of them is thrown away, counted in
its row and drawn anew.

Layout: images/NNN/NNNNNN.png and masks/NNN/NNNNNN.png (8-bit grey; masks 0 and 255), table/*.parquet (one
table in parts of up to 1,000 rows), repository.json (request, solver, seed, model, what was kept away from),
rejected/NNN/NNNNNN (how
often an image was thrown away, for those that were).
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.data.record import DataError
from models.data.whole import write_whole
from models.generation.draw import BATCH, Asked, Row, draw_images, draw_row
from models.generation.flow import Solver
from models.generation.nearest import NearIndex
from models.generation.product import Generator
from models.generation.table import add_rows, read_all, read_between
from models.runtime.preprocess import suppress_marks
from models.training.run import begin_run

PART_ROWS = 1000
MOST_REJECTED = 20  # draws of one image
TABLE = "table"
FACTS = "repository.json"
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shard:
    """Indices `first` (inclusive) to `stop` (exclusive) of a repository."""

    first: int
    stop: int


def shard_of(count: int, part: int, whole: int) -> Shard:
    """The `part`-th, from 1, of `whole` shards of a repository of `count` images; may be empty."""
    return Shard(count * (part - 1) // whole, count * part // whole)


def fill(
    generator: Generator,
    out: Path,
    asked: Asked,
    solver: Solver,
    seed: int,
    shard: Shard,
    near: NearIndex | None = None,
) -> float | None:
    """Draw a shard into `out`, away from the pictures of `near`; images per second, None if all were there.

    Raises
    ------
    RunDiffersError
        `out` holds a repository of another model, seed, request or index.
    DataError
        An image came too near to a training picture however often it was drawn.
    """
    facts = {
        "asked": asdict(asked),
        "solver": asdict(solver),
        "seed": seed,
        "model": generator.digest,
        "kept_away_from": near.digest if near else "",
    }
    if near:
        facts["away_below"] = dict(near.thresholds)
    if generator.adapter:
        facts["adapter"] = generator.adapter
    begin_run(out, _as_begun(out / FACTS, facts), FACTS)

    def again(index: int, rejected: int) -> Row:
        return draw_row(generator, asked, solver, seed, index, rejected)

    begun, drawn = time.monotonic(), 0
    with _progress() as progress:
        task = progress.add_task("drawing", total=shard.stop - shard.first, rate="")
        for first, stop in parts(shard):
            block = _block(first)
            there = read_between(out / TABLE, *block)
            rows = {i: again(i, _rejected(out, i)) for i in range(first, stop) if i not in there}
            missing = [row for row in rows.values() if not _is_there(out, row.index)]
            damaged = [i for i in range(first, stop) if i in there and not _is_whole(out, there[i])]
            for index in damaged:
                rows[index] = again(index, there[index]["rejected"])
                missing.append(rows[index])
            progress.update(task, advance=stop - first - len(missing))
            for chunk in _chunks(missing):
                for row, picture, mask in _kept(generator, chunk, solver, near, again):
                    _write_image(out, row, picture, mask)
                    rows[row.index] = row
                drawn += len(chunk)
                rate = drawn / (time.monotonic() - begun)
                progress.update(task, advance=len(chunk), rate=f"{rate:.2f} images/s")
            add_rows(out / TABLE, block, {i: _content(out, row) for i, row in rows.items()}, first, stop)
    return drawn / (time.monotonic() - begun) if drawn else None


def _as_begun(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts in the form in which an older busmap wrote them to `path`, so that it is gone on with."""
    own = dict(facts)
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        if begun["solver"].get("heun") is False:  # another method of solving, which no verb ever took
            own["solver"] = {**own["solver"], "heun": False}
        if "away_below" not in begun:
            own.pop("away_below", None)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return dict(facts)
    return own


def repository_facts(out: Path) -> dict[str, Any]:
    """What repository.json says: request, solver, seed, model, index kept away from.

    Raises
    ------
    DataError
        It is missing or cannot be read.
    """
    try:
        facts: dict[str, Any] = json.loads((out / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{out / FACTS} cannot be read ({error}): give the --out of busmap generator sample, whole"
        ) from None
    return facts


def _block(index: int) -> tuple[int, int]:
    """The range of indices around one that a part of the table may hold."""
    first = index // PART_ROWS * PART_ROWS
    return first, first + PART_ROWS


def _kept(
    generator: Generator,
    rows: Sequence[Row],
    solver: Solver,
    near: NearIndex | None,
    again: Callable[[int, int], Row],
) -> Iterator[tuple[Row, Grey, Grey]]:
    """Image and mask of each row, or of the first of its later draws that is not too near."""
    waiting = list(rows)
    while waiting:
        rejected = []
        for row, picture, mask in zip(waiting, *draw_images(generator, waiting, solver), strict=True):
            if near is None or not near.too_near(unmarked(picture, row), lesion=row.lesions > 0):
                yield row, picture, mask
            elif row.rejected < MOST_REJECTED:
                rejected.append(again(row.index, row.rejected + 1))
            else:
                raise DataError(
                    f"image {row.index} came too near to a training picture {row.rejected + 1} times: "
                    "the generator knows its pictures by heart, use one trained for fewer epochs"
                )
        waiting = rejected


def unmarked(picture: Grey, row: Row) -> Grey:
    """A picture without the marks that were painted on it."""
    return suppress_marks(picture) if row.callipers or row.text else picture


def rejected_count(out: Path) -> int:
    """How many draws of a repository were thrown away."""
    return sum(row.rejected for row in read_rows(out))


def _rejected_path(out: Path, index: int) -> Path:
    return out / "rejected" / f"{index // PART_ROWS:03d}" / f"{index:06d}"


def _rejected(out: Path, index: int) -> int:
    """How often an image that is there was thrown away before; 0 of one that is not."""
    path = _rejected_path(out, index)
    return int(path.read_text()) if path.exists() and _is_there(out, index) else 0


def _write_image(out: Path, row: Row, picture: Grey, mask: Grey) -> None:
    """The picture last: where it is, the rest is there too."""
    image_path, mask_path = picture_paths(out, row.index)
    if row.rejected:
        write_whole(_rejected_path(out, row.index), str(row.rejected))
    _write_png(mask * np.uint8(255), mask_path)
    _write_png(picture, image_path)


def parts(shard: Shard) -> Iterator[tuple[int, int]]:
    """The ranges of a shard's parts, cut at multiples of `PART_ROWS`."""
    first = shard.first
    while first < shard.stop:
        stop = min(_block(first)[1], shard.stop)
        yield first, stop
        first = stop


def read_rows(out: Path) -> list[Row]:
    """All rows of a repository's table, by index, each once.

    Raises
    ------
    DataError
        There is no table, or its parts say different things of one image.
    """
    rows = read_all(out / TABLE)
    if not rows:
        raise DataError(f"{out} holds no table of generated images: busmap generator sample --out {out}")
    names = [field.name for field in fields(Row)]
    return [Row(**{name: content[name] for name in names}) for _, content in sorted(rows.items())]


def picture_paths(out: Path, index: int) -> tuple[Path, Path]:
    """Where image and mask `index` of a repository lie."""
    name = Path(f"{index // PART_ROWS:03d}") / f"{index:06d}.png"
    return out / "images" / name, out / "masks" / name


def _is_there(out: Path, index: int) -> bool:
    return all(path.exists() for path in picture_paths(out, index))


def _is_whole(out: Path, content: Mapping[str, Any]) -> bool:
    """Whether the files of a row of the table are as they were written."""
    pairs = ((out / content[name], content[f"{name}_sha256"]) for name in ("image", "mask"))
    return all(path.is_file() and _sha256(path) == digest for path, digest in pairs)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_picture(path: Path) -> Grey:
    """A picture of a repository, uint8 (s, s).

    Raises
    ------
    DataError
        It is missing, empty or cut short.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"))
    except (OSError, SyntaxError) as error:
        why = getattr(error, "strerror", None) or "it is cut short or no picture"
        raise DataError(
            f"{path} cannot be read ({why}): the same busmap generator sample again draws it anew"
        ) from None


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _content(out: Path, row: Row) -> dict[str, Any]:
    """A row of the table: the row, and the files that it describes."""
    image, mask = picture_paths(out, row.index)
    return {
        **asdict(row),
        "image": image.relative_to(out).as_posix(),
        "mask": mask.relative_to(out).as_posix(),
        "image_sha256": _sha256(image),
        "mask_sha256": _sha256(mask),
    }


def png_of(picture: npt.NDArray[np.uint8 | np.bool_]) -> bytes:
    """The file of a picture, uint8 or bool (rows, columns)."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return content.getvalue()


def _write_png(picture: Grey, path: Path) -> None:
    write_whole(path, png_of(picture))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
