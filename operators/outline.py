"""From a lesion's mask to its outline on the image, and from there to millimetres.

Promises: outlines lie inside their region and in the coordinates of a DICOM SCOORD (PS3.3 C.18.6: 0.0 is
the outer edge of the top left pixel, a pixel's centre lies at +0.5). Refuses to measure an uncalibrated
region: no calibration, no millimetres.
"""

from __future__ import annotations

import contextlib

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import approximate_polygon, find_contours

from operators.findings import Measurement
from operators.study import Region

_TOLERANCE_PX = 0.6  # points nearer than this to the line between their neighbours are left out

Outline = npt.NDArray[np.float32]


def outline_of(mask: npt.NDArray[np.bool_], region: Region) -> Outline:
    """Outer contour of a mask, bool (region.rows, region.columns), on the whole image.

    Returns
    -------
    float32 (n, 2)
        (column, row), n >= 3, not repeated at the end; of several pieces the longest contour.

    Raises
    ------
    ValueError
        The mask is empty or of another shape than the region.
    """
    if mask.shape != (region.rows, region.columns) or not mask.any():
        raise ValueError("an outline needs a mask of its region's shape with at least one pixel set")
    contours = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    longest = max(contours, key=len)
    points = approximate_polygon(longest, _TOLERANCE_PX)[:-1]
    if len(points) < 3:
        points = longest[:-1]
    # Rows and columns of pixel centres in the padded mask: minus one for the margin, plus the half pixel.
    xy = points[:, ::-1] - 0.5
    xy = np.clip(xy, 0, (region.columns, region.rows))
    xy += np.array([region.min_x0, region.min_y0])
    return xy.astype(np.float32)


def measure(outline: Outline, region: Region) -> Measurement | None:
    """Size of an outline (column, row) in its region; None where the region is not calibrated.

    The long axis is the greatest distance between two points of the outline (maximum Feret diameter), the
    short axis the greatest extent at right angles to it, the area that of the polygon.
    """
    if region.mm_per_pixel_x is None or region.mm_per_pixel_y is None:
        return None
    points = outline.astype(np.float64) * (region.mm_per_pixel_x, region.mm_per_pixel_y)
    x, y = points.T
    area = 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
    with contextlib.suppress(QhullError):  # a lesion one pixel wide has no hull: all its points are looked at
        points = points[ConvexHull(points).vertices]
    between = points[:, None] - points[None]
    lengths = np.hypot(between[..., 0], between[..., 1])
    first, second = np.unravel_index(int(lengths.argmax()), lengths.shape)
    long_axis = float(lengths[first, second])
    if long_axis == 0:
        return Measurement(0.0, 0.0, area)
    direction = between[first, second] / long_axis
    across = points @ np.array([-direction[1], direction[0]])
    return Measurement(long_axis, float(np.ptp(across)), area)
