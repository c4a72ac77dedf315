"""Lines of text that the product's suppression of marks leaves, because their letters touch.

Promises: finds long, low, bright pieces made of many upright strokes. A generator copies what it is
shown; a reader of pictures may be left a word, a generator may not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.runtime.preprocess import MARK_BRIGHTNESS, MARK_CONTRAST, MARK_WIDTH_PX, Grey

_GAP_PX = 9  # letters of one line lie nearer to each other
_HEIGHT_PX = (7, 30)
_PX_PER_STROKE = 14.0  # along the line, at most, on average
_STEEP = 45.0  # grey levels from one column to the next at the edge of a stroke


def find_text(grey: Grey) -> npt.NDArray[np.bool_]:
    """Pixels of lines of text, bool (rows, columns), of a picture without other marks, uint8."""
    opened = ndimage.grey_opening(grey, size=(MARK_WIDTH_PX, MARK_WIDTH_PX), mode="nearest")
    tophat = grey.astype(np.float32) - opened
    bright = (tophat > 0.7 * MARK_CONTRAST) & (grey >= MARK_BRIGHTNESS - 20)
    labels, _ = ndimage.label(ndimage.binary_dilation(bright, np.ones((1, _GAP_PX))), np.ones((3, 3)))
    steps = np.abs(np.diff(grey.astype(np.float32), axis=1, prepend=grey[:, :1])) > _STEEP
    found = np.zeros(grey.shape, bool)
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = box[0].stop - box[0].start, box[1].stop - box[1].start
        if not (_HEIGHT_PX[0] <= rows <= _HEIGHT_PX[1] and columns >= 1.5 * rows):
            continue
        own = labels[box] == index
        # Steps up and down at strokes, over the middle rows of the line
        middle = slice(rows // 4, rows - rows // 4)
        strokes = (steps[box] & own)[middle].sum(1).mean() / 2
        if strokes >= max(3.0, columns / _PX_PER_STROKE) and bright[box][own].mean() > 0.15:
            found[box] |= own
    return ndimage.binary_dilation(found, np.ones((3, 3)))
