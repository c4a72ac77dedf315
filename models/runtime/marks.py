"""Burnt-in marks of a screen: callipers, text, scales, logos. Found by a small network, covered or filled.

Promises: deterministic; a picture without marks comes back as it came. `cover` leaves nothing of a mark's
shape, for pictures that leave the system; the original stays in the archive. Refuses arrays that are not
two-dimensional uint8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.runtime.engine import Engine
from models.runtime.preprocess import FILL_SIGMA_PX, Grey, check_grey, fill_marks

STRIDE = 8  # rows and columns of the network's input are multiples of it
_GAP = (9, 17)  # rows and columns up to which marks belong together: the letters of a line
_TEXT_COLUMNS = 28  # a block this wide is more than a calliper with its number
_FILL_SIGMAS_PX = (12.0, FILL_SIGMA_PX)  # a block is wider than the strokes that networks need filled
_BLACK, _TISSUE = 3, 20  # grey values: black letters, and what they must stand on
_BLACK_STROKE = 9  # pixels that a black stroke is thinner than
_RIM = 2  # pixels around a block that are covered too

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Marks:
    """What was found on a picture: bool (rows, columns), all False where nothing was.

    `mask` holds the strokes, `blocks` the same closed to whole words.
    """

    mask: Mask
    blocks: Mask

    @property
    def text(self) -> bool:
        """Whether a block is wide enough to be words."""
        labels, _ = ndimage.label(self.blocks)
        return any(box[1].stop - box[1].start >= _TEXT_COLUMNS for box in ndimage.find_objects(labels))


@dataclass(frozen=True)
class Covered:
    """A picture that may be shown, uint8 (rows, columns), with what was removed from it."""

    grey: Grey
    marks: Marks


@dataclass(frozen=True)
class MarkModel:
    """The network with the probability from which a pixel is a mark."""

    engine: Engine
    threshold: float
    minimum_pixels: int

    def find(self, grey: Grey) -> Marks:
        """Marks on a picture, uint8 (rows, columns)."""
        check_grey(grey)
        rows, columns = grey.shape
        padded = np.pad(grey, ((0, -rows % STRIDE), (0, -columns % STRIDE)), mode="edge")
        image = (padded[None, None] / np.float32(255)).astype(np.float32)
        probability = self.engine.run({"image": image})["mark_probability"][0, 0, :rows, :columns]
        mask = _large((probability > self.threshold) | _black_strokes(grey), self.minimum_pixels)
        return Marks(mask, _blocks(mask))

    def cover(self, grey: Grey) -> Covered:
        """The picture with every block of marks filled from its surroundings."""
        marks = self.find(grey)
        return Covered(fill_marks(grey, marks.blocks, _FILL_SIGMAS_PX), marks)


def _black_strokes(grey: Grey) -> Mask:
    """Thin strokes of black on tissue: letters that the network misses in part, as it learned bright ones."""
    closed = ndimage.grey_closing(grey, (_BLACK_STROKE, _BLACK_STROKE))
    return (grey <= _BLACK) & (closed >= _TISSUE)


def _large(mask: Mask, minimum_pixels: int) -> Mask:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return mask
    return (np.bincount(labels.ravel()) >= minimum_pixels)[labels] & mask


def _blocks(mask: Mask) -> Mask:
    """Strokes closed to words, with a rim; closed within a wider frame, so that the edge closes nothing."""
    if not mask.any():
        return mask
    around = max(_GAP)
    wide = ndimage.binary_closing(np.pad(mask, around), np.ones(_GAP))[around:-around, around:-around]
    side = 2 * _RIM + 1
    return ndimage.binary_dilation(ndimage.binary_fill_holes(wide | mask), np.ones((side, side)))
