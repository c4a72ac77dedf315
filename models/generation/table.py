"""The table of a repository: parts, each named by the range of indices that it holds.

Promises: a part appears whole or not at all. Whatever counts and shards a folder was drawn in, the parts of a
block end as one; those taken over are deleted after it is there, so a kill leaves rows twice at worst. Rows
that stand twice are read once, and refused where they differ. Columns that an older table lacks get what its
pictures were drawn with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from models.data.record import DataError
from models.data.whole import whole_file

SCHEMA: Final = pa.schema(
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
        ("guided_from", pa.float64()),
        ("guided_to", pa.float64()),
        ("adapter", pa.string()),
        ("model", pa.string()),
        ("rejected", pa.int16()),
        ("image", pa.string()),
        ("mask", pa.string()),
        ("image_sha256", pa.string()),
        ("mask_sha256", pa.string()),
    ]
)
# Tables without these columns were all drawn with these values.
OLDER: Final[Mapping[str, Any]] = {"guided_from": 0.1, "guided_to": 0.9}
Content = Mapping[str, Any]
_NAME = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class Part:
    """A file of the table: rows of indices `first` (inclusive) to `stop` (exclusive)."""

    path: Path
    first: int
    stop: int


def parts_between(folder: Path, first: int, stop: int) -> list[Part]:
    """Parts with rows of this range, in their order."""
    found = []
    for path in folder.glob("*.parquet"):
        name = _NAME.fullmatch(path.stem)
        if name and int(name[1]) < stop and first < int(name[2]):
            found.append(Part(path, int(name[1]), int(name[2])))
    return sorted(found, key=lambda part: (part.first, part.stop))


def read_between(folder: Path, first: int, stop: int) -> dict[int, Content]:
    """What the parts with rows of this range hold, by index. Raises as `read_all`."""
    return _read(lambda: [part.path for part in parts_between(folder, first, stop)])


def read_all(folder: Path) -> dict[int, Content]:
    """All rows, by index; those of older tables with the columns that they lack.

    Raises
    ------
    DataError
        Two parts say different things of one image.
    """
    return _read(lambda: sorted(folder.glob("*.parquet")))


def add_rows(
    folder: Path, block: tuple[int, int], rows: Mapping[int, Content], first: int, stop: int
) -> None:
    """Store `rows`, so that all of `first` to `stop` is there, in one part with the rows next to them.

    `block`: range of indices, around `first` to `stop`, that a part may cover.

    Raises
    ------
    DataError
        A row is there already, and is another one.
    """
    stored = parts_between(folder, *block)
    known = _merged([part.path for part in stored])
    for content in rows.values():
        _join(known, content, folder)
    while first - 1 in known and first > block[0]:
        first -= 1
    while stop in known and stop < block[1]:
        stop += 1
    path = folder / f"{first:09d}-{stop:09d}.parquet"
    if rows or all(part.path != path for part in stored):
        table = pa.Table.from_pylist([dict(known[index]) for index in range(first, stop)], SCHEMA)
        with whole_file(path) as unfinished:
            pq.write_table(table, unfinished)
    for part in stored:
        if first <= part.first and part.stop <= stop and part.path != path:
            part.path.unlink(missing_ok=True)


def _read(listed: Callable[[], list[Path]]) -> dict[int, Content]:
    """Rows of the listed parts; listed anew where one was taken over in between."""
    while True:
        paths = listed()
        try:
            return _merged(paths)
        except FileNotFoundError:
            if listed() == paths:
                raise


def _merged(paths: Iterable[Path]) -> dict[int, Content]:
    known: dict[int, Content] = {}
    for path in paths:
        for content in _rows(path):
            _join(known, {**OLDER, **content}, path.parent)
    return known


def _rows(path: Path) -> list[Content]:
    """The rows of a part.

    Raises
    ------
    DataError
        It is cut short, no parquet, or another table.
    """
    remedy = f"delete it and give busmap generator sample again: it writes the rows of {path.parent} anew"
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise DataError(
            f"{path} cannot be read as parquet ({str(error).splitlines()[0]}): {remedy}"
        ) from None
    missing = [name for name in SCHEMA.names if name not in (*table.column_names, *OLDER)]
    if missing:
        raise DataError(f"{path} lacks the column {', '.join(missing)}: {remedy}")
    rows: list[Content] = table.to_pylist()
    return rows


def _join(known: dict[int, Content], content: Content, folder: Path) -> None:
    index = content["index"]
    if known.setdefault(index, content) != content:
        raise DataError(
            f"image {index} stands twice and differently in {folder}: it was drawn on machines that do not "
            "draw alike; delete that folder and give busmap generator sample again: it writes the rows of "
            "the pictures that are there"
        )
