"""Sets of generated studies: a repository's, and the golden one that busmap verifies itself with.

Promises: the same generator and seed give the same golden set; it has 64 studies and at most 10 MB, or
there is none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from models.data.record import DataError
from models.data.whole import whole_folder
from models.generation.dicom import Written, write_studies
from models.generation.draw import Asked, usual_devices
from models.generation.flow import Solver
from models.generation.manifest import write_manifest
from models.generation.nearest import NearIndex
from models.generation.product import Generator
from models.generation.repository import Shard, fill, read_rows

STUDIES: Final = 64
MAXIMUM_BYTES: Final = 10_000_000
_ASKED = Asked(callipers_share=0, text_share=0)


def write_set(repository: Path, out: Path, most: int | None = None) -> tuple[int, int, str]:
    """Write a repository's studies with their manifest into a new folder.

    Returns the number of studies, that of rows left out because marks are painted on them (and, for want of
    room, after `most` studies), and the SHA-256 of the manifest.

    Raises
    ------
    DataError
        The folder is not empty, or the repository holds no picture without painted marks.
    """
    with _new_folder(out) as folder:
        return _write(repository, folder, most)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, which takes its place when all went well and is gone otherwise."""
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty: give another folder, or delete it")
    with whole_folder(out.resolve()) as folder:
        yield folder


def _write(repository: Path, out: Path, most: int | None) -> tuple[int, int, str]:
    """The studies and their manifest; returns as `write_set`."""
    rows = read_rows(repository)
    written = list(write_studies(repository, out, most))
    if not written:
        raise DataError(
            f"{repository} holds no picture without painted marks: draw with --callipers 0 --text 0"
        )
    return (
        _count(written),
        len(rows) - len(written),
        write_manifest(out, _facts(written), _entries(out, written)),
    )


def make_golden(
    generator: Generator,
    out: Path,
    seed: int,
    solver: Solver,
    near: NearIndex | None = None,
    studies: int = STUDIES,
) -> str:
    """Draw the golden set into a new folder; returns the SHA-256 of its manifest.

    `near`: draws too near to the pictures of this index are thrown away.

    Raises
    ------
    DataError
        The folder is not empty, or the set came out larger than 10 MB.
    """
    with _new_folder(out) as folder, tempfile.TemporaryDirectory(prefix="busmap-golden-") as scratch:
        asked = replace(_ASKED, devices=usual_devices(generator.facts))
        # Two views a study at most.
        fill(generator, Path(scratch), asked, solver, seed, Shard(0, 2 * studies), near)
        made, _, digest = _write(Path(scratch), folder, studies)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if made != studies or size > MAXIMUM_BYTES:
            raise DataError(
                f"the set has {made} studies and {size} bytes, not {studies} and at most {MAXIMUM_BYTES}: "
                "give another --seed"
            )
    return digest


def _count(written: Iterable[Written]) -> int:
    return len({one.study_instance_uid for one in written})


def _facts(written: Iterable[Written]) -> dict[str, Any]:
    rows = [one.row for one in written]
    return {
        "note": "Generated, no patient. Research use.",
        "models": sorted({row.model for row in rows}),
        "adapters": sorted({row.adapter for row in rows}),
    }


def _entries(out: Path, written: Iterable[Written]) -> list[Mapping[str, Any]]:
    return [
        {
            "path": one.path.relative_to(out).as_posix(),
            "outline": one.outline.relative_to(out).as_posix(),
            "study_instance_uid": one.study_instance_uid,
            "sop_instance_uid": one.sop_instance_uid,
            "index": one.row.index,
            "seed": one.row.seed,
            "lesion_class": one.row.lesion_class,
            "lesions": one.row.lesions,
        }
        for one in written
    ]
