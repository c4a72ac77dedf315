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

# The network's map has 160 cells on the region's longer side and blurs over about three: an outline that
# comes nearer than that to an edge may go on beyond it.
EDGE_SHARE = 0.02

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

    The long axis is the greatest distance between two points of the outline (maximum Feret diameter, ISO
    9276-6), the short axis the greatest extent at right angles to it, the area that of the polygon. The depth
    is measured along the beam, from the skin to the outline's nearest point (Distance from skin, CID 6165).
    """
    if region.mm_per_pixel_x is None or region.mm_per_pixel_y is None:
        return None
    points = outline.astype(np.float64) * (region.mm_per_pixel_x, region.mm_per_pixel_y)
    x, y = points.T
    area = 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
    long_axis, short_axis = _axes(points)
    at_top, elsewhere = _reaches_edge(outline, region)
    depth = None
    if region.skin_y is not None and not at_top:
        depth = max(float(y.min()) - region.skin_y * region.mm_per_pixel_y, 0.0)
    return Measurement(
        long_axis, short_axis, area, float(np.ptp(x)), float(np.ptp(y)), depth, cut=at_top or elsewhere
    )


def _axes(points: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Long and short axis of points (n, 2) in millimetres."""
    with contextlib.suppress(QhullError):  # a lesion one pixel wide has no hull: all its points are looked at
        points = points[ConvexHull(points).vertices]
    between = points[:, None] - points[None]
    lengths = np.hypot(between[..., 0], between[..., 1])
    first, second = np.unravel_index(int(lengths.argmax()), lengths.shape)
    long_axis = float(lengths[first, second])
    if long_axis == 0:
        return 0.0, 0.0
    direction = between[first, second] / long_axis
    return long_axis, float(np.ptp(points @ np.array([-direction[1], direction[0]])))


def _reaches_edge(outline: Outline, region: Region) -> tuple[bool, bool]:
    """Whether the outline may go on beyond the region: at its top, and at any other side.

    Where the skin lies inside the region nothing goes on beyond its top.
    """
    margin = EDGE_SHARE * max(region.columns, region.rows)
    (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
    above_skin = region.skin_y is None or region.skin_y < region.min_y0
    at_top = above_skin and bool(top - region.min_y0 < margin)
    elsewhere = (
        left - region.min_x0 < margin
        or region.max_x1 + 1 - right < margin
        or region.max_y1 + 1 - bottom < margin
    )
    return at_top, bool(elsewhere)
