"""Images of a repository drawn again, each from its row alone, and how far they are from those on disk.

Promises: bit for bit on the same processor, versions and number of threads; with other threads or vector
instructions within `TOLERANCE` (`docs/generator.md` says how it was measured, and what was not). Rows of
another model or adapter are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from models.data.record import DataError
from models.generation.draw import BATCH, Row, draw_images
from models.generation.product import Generator
from models.generation.repository import picture_paths, png_of, read_picture

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Redrawn:
    """Image and mask, uint8 (s, s), mask 0 or 1, drawn again.

    `exact`: whether both files would be those whose SHA-256 the row names, byte for byte; None of a row that
    names none. Other versions of the PNG library may write other bytes of the same pixels.
    """

    image: Grey
    mask: Grey
    exact: bool | None


@dataclass(frozen=True)
class Difference:
    """`share` of the pixels that differ, and by how many grey levels at `most`."""

    share: float
    most: int

    def within(self, other: Difference) -> bool:
        """Whether both are at most those of `other`."""
        return self.share <= other.share and self.most <= other.most


TOLERANCE: Final = Difference(share=0.001, most=1)  # of one image, on another processor in single precision


def redraw(generator: Generator, row: Row) -> Redrawn:
    """The image of a row.

    Raises
    ------
    DataError
        The row was drawn from another model, or with another adapter.
    """
    return next(redraw_all(generator, [row]))


def redraw_all(generator: Generator, rows: Sequence[Row]) -> Iterator[Redrawn]:
    """The images of rows, in their order, as many at once as the networks see. Raises as `redraw`."""
    for row in rows:
        _check(generator, row)
    for solver, group in groupby(rows, key=lambda row: row.solver):
        alike = list(group)
        for start in range(0, len(alike), BATCH):
            chunk = alike[start : start + BATCH]
            for row, image, mask in zip(chunk, *draw_images(generator, chunk, solver), strict=True):
                yield Redrawn(image, mask, _exact(row, image, mask))


def difference(one: Grey, other: Grey) -> Difference:
    """How far two pictures of one shape are apart."""
    apart = np.abs(one.astype(np.int16) - other.astype(np.int16))
    return Difference(float((apart > 0).mean()), int(apart.max()))


def stored(repository: Path, row: Row) -> tuple[Grey, Grey]:
    """Image and mask of a row as they lie on disk, uint8 (s, s), mask 0 or 1."""
    image, mask = (read_picture(path) for path in picture_paths(repository, row.index))
    return image, (mask > 127).astype(np.uint8)


def _exact(row: Row, image: Grey, mask: Grey) -> bool | None:
    if not (row.image_sha256 and row.mask_sha256):
        return None
    files = ((image, row.image_sha256), (mask * np.uint8(255), row.mask_sha256))
    return all(hashlib.sha256(png_of(picture)).hexdigest() == digest for picture, digest in files)


def _check(generator: Generator, row: Row) -> None:
    if row.model != generator.digest:
        raise DataError(
            f"image {row.index} was drawn from model {row.model[:12]}, not from {generator.digest[:12]}"
        )
    if row.adapter != generator.adapter:
        raise DataError(
            f"image {row.index} was drawn with {_named(row.adapter)}, not with {_named(generator.adapter)}"
        )


def _named(adapter: str) -> str:
    return f"adapter {adapter[:12]}" if adapter else "no adapter"
