"""Lines of text that the product's suppression of marks leaves, because their letters touch.

Promises: finds long, low, bright pieces made of many upright strokes. A generator copies what it is
shown; a reader of pictures may be left a word, a generator may not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.runtime.preprocess import MARK_BRIGHTNESS, MARK_CONTRAST, MARK_WIDTH_PX, Grey

# Ours, no publication's; all in px or grey levels of BUS-BRA's pictures as they are. How much hangs on them:
# lines are found in 31 of 120 pictures (folds 1 to 4, drawn by seed 1), and in 31 too with the gap or either
# height a quarter less or more, in 28 and 32 with the spacing of strokes, in 34 and 24 with their steepness.
_GAP_PX = 9  # letters of one line lie nearer to each other
_HEIGHT_PX = (7, 30)  # of a line: from the smallest letters of the scanners' screens to their headings
_PX_PER_STROKE = 14.0  # along the line, at most, on average
_STEEP = 45.0  # grey levels from one column to the next at the edge of a stroke
# The same of what the product's marks are told by, loosened, for a line is judged as a whole afterwards
_CONTRAST = 0.7 * MARK_CONTRAST
_BRIGHTNESS = MARK_BRIGHTNESS - 20
_LONGER = 1.5  # times its height, at least: a single letter is left to the product
_STROKES = 3.0  # at least
_INKED = 0.15  # share of a line's area that is bright, at least


def find_text(grey: Grey) -> npt.NDArray[np.bool_]:
    """Pixels of lines of text, bool (rows, columns), of a picture without other marks, uint8."""
    opened = ndimage.grey_opening(grey, size=(MARK_WIDTH_PX, MARK_WIDTH_PX), mode="nearest")
    tophat = grey.astype(np.float32) - opened
    bright = (tophat > _CONTRAST) & (grey >= _BRIGHTNESS)
    labels, _ = ndimage.label(ndimage.binary_dilation(bright, np.ones((1, _GAP_PX))), np.ones((3, 3)))
    steps = np.abs(np.diff(grey.astype(np.float32), axis=1, prepend=grey[:, :1])) > _STEEP
    found = np.zeros(grey.shape, bool)
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = box[0].stop - box[0].start, box[1].stop - box[1].start
        if not (_HEIGHT_PX[0] <= rows <= _HEIGHT_PX[1] and columns >= _LONGER * rows):
            continue
        own = labels[box] == index
        # Steps up and down at strokes, over the middle rows of the line
        middle = slice(rows // 4, rows - rows // 4)
        strokes = (steps[box] & own)[middle].sum(1).mean() / 2
        if strokes >= max(_STROKES, columns / _PX_PER_STROKE) and bright[box][own].mean() > _INKED:
            found[box] |= own
    return ndimage.binary_dilation(found, np.ones((3, 3)))
