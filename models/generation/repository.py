"""A repository of generated images on disk: pictures, masks and one table of rows.

Promises: images stream to disk, whole or not at all; a killed run goes on where it stopped; a shard is a
range of indices that any machine can draw, and the shards together are the whole, byte for byte; every
row names all that its image follows from. A folder drawn from another model, seed or request is refused.
Where an index of training pictures is given, a picture too near to one of them is thrown away, counted in
its row and drawn anew.

Layout: images/NNN/NNNNNN.png and masks/NNN/NNNNNN.png (8-bit grey; masks 0 and 255), table/*.parquet (one
table in parts of up to 1,000 rows), repository.json (request, solver, seed, model), rejected/NNN/NNNNNN (how
often an image was thrown away, for those that were).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.data.record import DataError
from models.generation.draw import BATCH, Asked, Row, draw_images, draw_row
from models.generation.flow import Solver
from models.generation.nearest import NearIndex
from models.generation.product import Generator
from models.runtime.preprocess import suppress_marks
from models.training.run import begin_run

PART_ROWS = 1000
MOST_REJECTED = 20  # draws of one image
TABLE = "table"
Grey = npt.NDArray[np.uint8]

SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("seed", pa.int64()),
        ("lesion_class", pa.string()),
        ("device", pa.string()),
        ("birads", pa.string()),
        ("histology", pa.string()),
        ("lesions", pa.int8()),
        ("zoom", pa.float64()),
        ("callipers", pa.bool_()),
        ("text", pa.bool_()),
        ("steps", pa.int32()),
        ("guidance", pa.float64()),
        ("adapter", pa.string()),
        ("model", pa.string()),
        ("rejected", pa.int16()),
        ("image", pa.string()),
        ("mask", pa.string()),
        ("image_sha256", pa.string()),
        ("mask_sha256", pa.string()),
    ]
)


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
    adapter = {"adapter": generator.adapter} if generator.adapter else {}
    begin_run(out, facts | adapter, "repository.json")

    def again(index: int, rejected: int) -> Row:
        return draw_row(generator, asked, solver, seed, index, rejected)

    begun, drawn = time.monotonic(), 0
    with _progress() as progress:
        task = progress.add_task("drawing", total=shard.stop - shard.first, rate="")
        for first, stop in parts(shard):
            part = out / TABLE / f"{first:09d}-{stop:09d}.parquet"
            if part.exists():
                progress.update(task, advance=stop - first)
                continue
            rows = {index: again(index, _rejected(out, index)) for index in range(first, stop)}
            missing = [row for row in rows.values() if not _is_there(out, row.index)]
            progress.update(task, advance=len(rows) - len(missing))
            for chunk in _chunks(missing):
                for row, picture, mask in _kept(generator, chunk, solver, near, again):
                    _write_image(out, row, picture, mask)
                    rows[row.index] = row
                drawn += len(chunk)
                rate = drawn / (time.monotonic() - begun)
                progress.update(task, advance=len(chunk), rate=f"{rate:.2f} images/s")
            _write_part(out, list(rows.values()), part)
    return drawn / (time.monotonic() - begun) if drawn else None


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
        written(_rejected_path(out, row.index), lambda path: path.write_text(str(row.rejected)))
    _write_png(mask * np.uint8(255), mask_path)
    _write_png(picture, image_path)


def parts(shard: Shard) -> Iterator[tuple[int, int]]:
    """The ranges of a shard's parts, cut at multiples of `PART_ROWS`."""
    first = shard.first
    while first < shard.stop:
        stop = min((first // PART_ROWS + 1) * PART_ROWS, shard.stop)
        yield first, stop
        first = stop


def read_rows(out: Path) -> list[Row]:
    """All rows of a repository's table, by index.

    Raises
    ------
    DataError
        There is no table.
    """
    files = sorted((out / TABLE).glob("*.parquet"))
    if not files:
        raise DataError(f"{out} holds no table of generated images: busmap generator sample --out {out}")
    names = [field.name for field in fields(Row)]
    rows = [Row(**row) for file in files for row in pq.read_table(file, columns=names).to_pylist()]
    return sorted(rows, key=lambda row: row.index)


def redraw(generator: Generator, row: Row, solver: Solver | None = None) -> tuple[Grey, Grey]:
    """Image and mask, uint8 (s, s), mask 0 or 1, of a row alone.

    Raises
    ------
    DataError
        The row was drawn from another model, or with another adapter.
    """
    if row.model != generator.digest:
        raise DataError(
            f"image {row.index} was drawn from model {row.model[:12]}, not from {generator.digest[:12]}"
        )
    if row.adapter != generator.adapter:
        raise DataError(
            f"image {row.index} was drawn with {_named(row.adapter)}, not with {_named(generator.adapter)}"
        )
    own = solver or Solver(steps=row.steps, guidance=row.guidance)
    pictures, masks = draw_images(generator, [row], own)
    return pictures[0], masks[0]


def _named(adapter: str) -> str:
    return f"adapter {adapter[:12]}" if adapter else "no adapter"


def picture_paths(out: Path, index: int) -> tuple[Path, Path]:
    """Where image and mask `index` of a repository lie."""
    name = Path(f"{index // PART_ROWS:03d}") / f"{index:06d}.png"
    return out / "images" / name, out / "masks" / name


def _is_there(out: Path, index: int) -> bool:
    return all(path.exists() for path in picture_paths(out, index))


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _write_part(out: Path, rows: Sequence[Row], part: Path) -> None:
    content: list[dict[str, Any]] = []
    for row in rows:
        image, mask = picture_paths(out, row.index)
        content.append(
            {
                **asdict(row),
                "image": image.relative_to(out).as_posix(),
                "mask": mask.relative_to(out).as_posix(),
                "image_sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
                "mask_sha256": hashlib.sha256(mask.read_bytes()).hexdigest(),
            }
        )
    table = pa.Table.from_pylist(content, SCHEMA)
    written(part, lambda unfinished: pq.write_table(table, unfinished))


def _write_png(picture: Grey, path: Path) -> None:
    written(path, lambda unfinished: Image.fromarray(picture).save(unfinished, "PNG"))


def written(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.partial")
    write(unfinished)
    unfinished.replace(path)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
