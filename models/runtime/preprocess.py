"""What happens to a grey B-mode region before a network sees it, and how its answer finds the way back.

Promises: training and product call the same functions, so a model never meets pixels prepared
otherwise; every function is deterministic. Measuring marks burnt into the picture (callipers, text) are
suppressed here, before anything is learnt or inferred. Refuses arrays that are not two-dimensional uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Grey = npt.NDArray[np.uint8]

MARK_WIDTH_PX = 7  # strokes of callipers and letters are thinner than this
MARK_CONTRAST = 70  # grey levels by which a mark outshines its surroundings at least
MARK_BRIGHTNESS = 130  # and its own grey level
MARK_MAXIMUM_SIDE_PX = 40  # a connected mark (a letter, a cross) is smaller than this
FILL_SIGMA_PX = 3.0


def find_marks(grey: Grey) -> npt.NDArray[np.bool_]:
    """Pixels that look like burnt-in marks: thin, much brighter than around, in small pieces.

    Parameters
    ----------
    grey : uint8 (rows, columns)

    Returns
    -------
    bool (rows, columns)

    Notes
    -----
    White top-hat with a flat square (Meyer 1979). Speckle is as thin but dimmer: the contrast asked for
    grows with the local spread of the top-hat, so bright speckle stays.
    """
    check_grey(grey)
    opened = ndimage.grey_opening(grey, size=(MARK_WIDTH_PX, MARK_WIDTH_PX), mode="nearest")
    tophat = grey.astype(np.float32) - opened
    usual = ndimage.uniform_filter(tophat, size=61, mode="nearest")
    seed = (tophat > np.maximum(MARK_CONTRAST, 3.0 * usual)) & (grey >= MARK_BRIGHTNESS)
    grown = ndimage.binary_propagation(seed, mask=tophat > 0.5 * np.maximum(MARK_CONTRAST, 3.0 * usual))
    labels, count = ndimage.label(grown, structure=np.ones((3, 3)))
    if not count:
        return np.zeros(grey.shape, bool)
    keep = np.zeros(count + 1, bool)
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        height, width = (axis.stop - axis.start for axis in box)
        keep[index] = max(height, width) <= MARK_MAXIMUM_SIDE_PX and height * width >= 6
    return ndimage.binary_dilation(keep[labels], structure=np.ones((3, 3)))


def suppress_marks(grey: Grey) -> Grey:
    """Fill burnt-in marks from their surroundings.

    Parameters and result: uint8 (rows, columns); pixels outside the marks are returned as they came.
    """
    return fill_marks(grey, find_marks(grey))


def fill_marks(grey: Grey, marks: npt.NDArray[np.bool_], sigmas: Sequence[float] = (FILL_SIGMA_PX,)) -> Grey:
    """Fill marked pixels from the others (normalised convolution, Knutsson & Westin 1993).

    uint8 and bool (rows, columns) -> uint8. `sigmas` in pixels, widest first: a narrower neighbourhood has
    the last word where it holds pixels that are not marked.
    """
    if not marks.any():
        return grey
    known = (~marks).astype(np.float32)
    filled = np.full(grey.shape, float(np.median(grey)))
    for sigma in sigmas:
        weight = ndimage.gaussian_filter(known, sigma, mode="nearest")
        blurred = ndimage.gaussian_filter(grey * known, sigma, mode="nearest")
        filled = np.where(weight > 1e-3, blurred / np.maximum(weight, 1e-3), filled)
    result = grey.copy()
    result[marks] = np.clip(np.rint(filled[marks]), 0, 255).astype(np.uint8)
    return result


@dataclass(frozen=True)
class Letterbox:
    """How a region was fitted into a square: scaled by `scale`, placed at the top left, padded with 0."""

    side: int
    rows: int
    columns: int

    @property
    def scale(self) -> float:
        """Pixels of the square per pixel of the region."""
        return self.side / max(self.rows, self.columns)

    @property
    def inner(self) -> tuple[int, int]:
        """Rows and columns of the square that hold picture."""
        return max(1, round(self.rows * self.scale)), max(1, round(self.columns * self.scale))

    def apply(self, grey: Grey) -> npt.NDArray[np.float32]:
        """Fit uint8 (rows, columns) into float32 (side, side), values 0..1."""
        inner_rows, inner_columns = self.inner
        small = Image.fromarray(grey).resize((inner_columns, inner_rows), Image.Resampling.BILINEAR)
        square = np.zeros((self.side, self.side), np.float32)
        square[:inner_rows, :inner_columns] = np.asarray(small, np.float32) / 255.0
        return square

    def invert(self, square: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Bring a float32 (side, side) map back to float32 (rows, columns) of the region."""
        inner_rows, inner_columns = self.inner
        inner = Image.fromarray(np.ascontiguousarray(square[:inner_rows, :inner_columns], np.float32))
        return np.asarray(inner.resize((self.columns, self.rows), Image.Resampling.BILINEAR), np.float32)


def letterbox(grey: Grey, side: int) -> tuple[npt.NDArray[np.float32], Letterbox]:
    """The network's square input for a region, and the mapping that leads back."""
    check_grey(grey)
    box = Letterbox(side, *grey.shape)
    return box.apply(grey), box


def lesion_crop(
    grey: Grey, mask: npt.NDArray[np.bool_], side: int, context_factor: float
) -> npt.NDArray[np.float32]:
    """The lesion with its surroundings: float32 (2, side, side), grey 0..1 and lesion mask 0..1.

    A square centred on the lesion's bounding box, `context_factor` times its longer side, zero outside
    the region.

    Raises
    ------
    ValueError
        The mask is empty or of another shape than the picture.
    """
    check_grey(grey)
    if mask.shape != grey.shape or not mask.any():
        raise ValueError(
            "the lesion mask is empty or does not fit the picture: only found lesions are cropped"
        )
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    centre_y, centre_x = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
    half = max(context_factor * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) / 2, 8.0)
    box = (centre_x - half, centre_y - half, centre_x + half, centre_y + half)
    return np.stack([_cut(grey, box, side), _cut(mask.astype(np.uint8) * 255, box, side)])


def _cut(picture: Grey, box: tuple[float, float, float, float], side: int) -> npt.NDArray[np.float32]:
    left, top, right, bottom = (round(value) for value in box)
    cut = Image.fromarray(picture).crop((left, top, right, bottom))  # outside the picture: 0
    return np.asarray(cut.resize((side, side), Image.Resampling.BILINEAR), np.float32) / 255.0


def check_grey(grey: Grey) -> None:
    """Raise ValueError unless `grey` is uint8 (rows, columns) with pixels."""
    if grey.ndim != 2 or grey.dtype != np.uint8 or not grey.size:
        raise ValueError(f"a grey picture is uint8 (rows, columns), not {grey.dtype} {grey.shape}")
