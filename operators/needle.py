"""A needle in the picture: a long, straight, bright and oblique line.

Promises: only lines longer than anatomy draws them: brighter than both sides nearly without a gap,
straight within two pixels, not along the layers of the breast nor along the beam. Burnt-in marks are taken
away before.
Refuses to find needles that lie parallel to the probe, which layers of fascia look like.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from skimage.transform import hough_line, hough_line_peaks

from models.runtime.preprocess import Grey

Floats = npt.NDArray[np.float32]

_WORKING_SIDE = 224
_LENGTH_SHARE = 0.35  # of the picture's longer side
_FLATTEST, _STEEPEST = 15.0, 70.0  # degrees from the horizontal
_CONTRAST = 50.0  # grey levels above both sides
_BESIDE = 5.0  # pixels from the line to what lies beside it
_UNBROKEN = 0.92  # of the line's points that outshine their sides
_CANDIDATES = 5
# Directions of the lines' normals, in radians from the horizontal, rising.
_FALLING = np.deg2rad(90 - np.arange(_FLATTEST, _STEEPEST))[::-1]
_NORMALS = np.concatenate([-_FALLING[::-1], _FALLING])


def shows_needle(clean: Grey) -> bool:
    """Whether a region without burnt-in marks, uint8 (rows, columns), shows a needle."""
    picture = Image.fromarray(clean)
    picture.thumbnail((_WORKING_SIDE, _WORKING_SIDE))
    small = ndimage.gaussian_filter(np.asarray(picture, np.float32), 0.7)
    ridge = small - ndimage.gaussian_filter(small, _BESIDE) > _CONTRAST / 2
    space, theta, distance = hough_line(ridge, _NORMALS)
    _, found, offsets = hough_line_peaks(space, theta, distance, num_peaks=_CANDIDATES)
    need = _LENGTH_SHARE * max(small.shape)
    return any(
        _longest_run(small, angle, offset) >= need for angle, offset in zip(found, offsets, strict=True)
    )


def _longest_run(picture: Floats, angle: float, offset: float) -> float:
    """Length in pixels of the longest nearly unbroken bright stretch of the line x cos + y sin = offset."""
    normal = np.array([np.sin(angle), np.cos(angle)])  # (y, x)
    along = np.array([np.cos(angle), -np.sin(angle)])
    steps = np.arange(-sum(picture.shape), sum(picture.shape))
    points = offset * normal[:, None] + along[:, None] * steps
    inside = np.all((points >= 0) & (points <= np.array(picture.shape)[:, None] - 1), axis=0)
    points = points[:, inside]
    if not points.size:
        return 0.0
    on = np.max([_at(picture, points + shift * normal[:, None]) for shift in (-2, -1, 0, 1, 2)], axis=0)
    beside = [_at(picture, points + sign * _BESIDE * normal[:, None]) for sign in (-1, 1)]
    bright = on - np.maximum(*beside) >= _CONTRAST
    # The longest stretch of which nearly all is bright: the widest pair of a rising walk.
    walk = np.concatenate(([0.0], np.cumsum(np.where(bright, 1 - _UNBROKEN, -_UNBROKEN))))
    return float(_widest_rise(walk))


def _at(picture: Floats, points: npt.NDArray[np.float64]) -> Floats:
    return np.asarray(ndimage.map_coordinates(picture, points, order=1, mode="nearest"))


def _widest_rise(walk: npt.NDArray[np.float64]) -> int:
    """Largest j - i with walk[j] >= walk[i]."""
    lowest = np.minimum.accumulate(walk)
    highest = np.maximum.accumulate(walk[::-1])[::-1]
    widest, i, j = 0, 0, 0
    while i < len(walk) and j < len(walk):
        if highest[j] >= lowest[i]:
            widest, j = max(widest, j - i), j + 1
        else:
            i += 1
    return widest
