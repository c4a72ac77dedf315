"""B-mode regions of an image and their calibration (PS3.3 C.8.5.5).

Promises: only regions of tissue (spatial format 2D, data type tissue) in pixels of the image; millimetres
only from a plausible scale in centimetres; a sentence for whatever was not used. Pure functions of the
header and, where it names no region, of the pixels.
Refuses: a scale from Pixel Spacing, which no ultrasound module defines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from scipy import ndimage

from operators.study import Region

# Codes of PS3.3 C.8.5.5.1: spatial format, data type, flags, physical units.
SPATIAL_2D = 1
TISSUE = 1
COLOUR_FLOW = 2
HIGH_PRIORITY = 1
CENTIMETRES = 3

# A breast probe is 3 to 10 cm wide; the limits leave room for panoramas and zoom.
MINIMUM_CM_PER_PIXEL, MAXIMUM_CM_PER_PIXEL = 0.001, 0.2
MINIMUM_WIDTH_CM, MAXIMUM_WIDTH_CM = 1.0, 25.0
MAXIMUM_ANISOTROPY = 2.0
MINIMUM_SIDE_PIXELS = 32
# Some scanners write the first pixel outside as the last one inside.
BOUNDS_TOLERANCE_PIXELS = 2
SPACING_TOLERANCE = 0.05

BLOCK_PIXELS = 8
_BACKGROUND_GREY = 8
_FLAT_GREY_DEVIATION = 1.5


@dataclass(frozen=True)
class RegionReading:
    """What a header says of its regions.

    `regions` are of tissue, in reading order. `under_colour` are those whose pixels a colour box covers.
    `only_other_kinds`: the header describes regions, and none of them is tissue (M-mode, spectrum, ...).
    """

    regions: tuple[Region, ...]
    under_colour: tuple[Region, ...] = ()
    only_other_kinds: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Item:
    """One item of the sequence, clipped to the image. `overhang` in pixels beyond it."""

    region: Region
    data_type: int
    high_priority: bool
    overhang: int


def read_regions(header: Dataset) -> RegionReading:
    """Read the tissue regions of a header that holds Rows and Columns.

    A region that overhangs the image by more than two pixels keeps its place but loses its scale: the
    picture was cropped or resized after it was calibrated.
    """
    items: list[_Item] = []
    notes: list[str] = []
    others = False
    for element in header.get("SequenceOfUltrasoundRegions") or ():
        spatial_format, data_type = (
            _number(element, "RegionSpatialFormat"),
            _number(element, "RegionDataType"),
        )
        if spatial_format == SPATIAL_2D and data_type in (TISSUE, COLOUR_FLOW):
            item, note = _read_item(element, header)
            items += [item] if item else []
            notes += [note] if note else []
        elif spatial_format:
            others = True
    tissue = _without_overlaps([item for item in items if item.data_type == TISSUE], notes)
    boxes = [item for item in items if item.data_type == COLOUR_FLOW]
    under_colour = tuple(region for region in tissue if any(_covers(box, region) for box in boxes))
    if not tissue:
        under_colour = tuple(box.region for box in boxes)
    regions = tuple(region for region in tissue if region not in under_colour)
    notes += _pixel_spacing_notes(header, (*regions, *under_colour))
    described = others or bool(items)
    return RegionReading(
        regions, under_colour, described and not regions and not under_colour, tuple(dict.fromkeys(notes))
    )


def _number(element: Dataset, keyword: str) -> float | None:
    """The value as a number; None where it is absent or no number."""
    try:
        value = float(element.get(keyword))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _read_item(element: Dataset, header: Dataset) -> tuple[_Item | None, str | None]:
    corners = [_corner(element, keyword) for keyword in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
    if None in corners:
        return None, "A region without its four bounds is not used."
    min_x, min_y, max_x, max_y = (corner for corner in corners if corner is not None)
    last_column, last_row = int(header.Columns) - 1, int(header.Rows) - 1
    overhang = max(-min_x, -min_y, max_x - last_column, max_y - last_row, 0)
    clipped = Region(max(min_x, 0), max(min_y, 0), min(max_x, last_column), min(max_y, last_row), stated=True)
    if min(clipped.columns, clipped.rows) < MINIMUM_SIDE_PIXELS:
        return None, f"A region of less than {MINIMUM_SIDE_PIXELS} pixels inside the image is not used."
    region, note = _calibrated(replace(clipped, skin_y=_skin(element, min_y, max_y)), element)
    if overhang > BOUNDS_TOLERANCE_PIXELS and region.calibrated:
        region, note = (
            clipped,
            "No sizes: a region reaches beyond the image, which was cropped or resized after calibration.",
        )
    high_priority = bool(int(_number(element, "RegionFlags") or 0) & HIGH_PRIORITY)
    data_type = int(_number(element, "RegionDataType") or 0)
    return _Item(region, data_type, high_priority, overhang), note


def _skin(element: Dataset, min_y: int, max_y: int) -> float | None:
    """Row of the image at which the depth is zero: the reference pixel lies on it (PS3.3 C.8.5.5.1).

    Where the reference pixel has a physical value, the skin is so far away from it. None where the header
    names no reference pixel, or one in the lower half of the region, where no probe stands.
    """
    reference, delta = _number(element, "ReferencePixelY0"), _number(element, "PhysicalDeltaY")
    if reference is None or not delta:
        return None
    row = reference - (_number(element, "ReferencePixelPhysicalValueY") or 0.0) / delta
    rows = max_y - min_y + 1
    return min_y + row if -2 * rows <= row < rows / 2 else None


def _corner(element: Dataset, keyword: str) -> int | None:
    """A bound (UL); a wrapped negative number is read as the negative number it was."""
    value = _number(element, f"RegionLocation{keyword}")
    if value is None:
        return None
    return int(value) - 2**32 if value >= 2**31 else int(value)


def _calibrated(region: Region, element: Dataset) -> tuple[Region, str | None]:
    """The region with its scale where that is in centimetres and plausible; otherwise the reason why not."""
    units = {_number(element, f"PhysicalUnits{axis}Direction") for axis in "XY"}
    if units != {CENTIMETRES}:
        return region, "No sizes: a region's scale is not in centimetres."
    # The sign only tells where the axis points (PS3.3 C.8.5.5.1.16).
    x, y = (abs(_number(element, f"PhysicalDelta{axis}") or 0.0) for axis in "XY")
    if not x or not y:
        return region, "No sizes: a region's scale is zero."
    if not all(MINIMUM_CM_PER_PIXEL <= delta <= MAXIMUM_CM_PER_PIXEL for delta in (x, y)):
        return region, f"No sizes: a scale of {x:g} x {y:g} cm a pixel is not plausible."
    if not MINIMUM_WIDTH_CM <= x * region.columns <= MAXIMUM_WIDTH_CM:
        return region, f"No sizes: a region {x * region.columns:.1f} cm wide is not plausible for the breast."
    if max(x, y) > MAXIMUM_ANISOTROPY * min(x, y):
        return region, f"No sizes: scales of {x:g} and {y:g} cm a pixel in one region are not plausible."
    return replace(region, mm_per_pixel_x=x * 10, mm_per_pixel_y=y * 10), None


def _without_overlaps(items: list[_Item], notes: list[str]) -> tuple[Region, ...]:
    """Drop a region that lies over a larger one; without one scale for both, the larger loses its own."""
    kept: list[Region] = []
    for found in sorted({item.region for item in items}, key=_largest_first):
        region = _trimmed(found, kept)
        under = next((k for k, other in enumerate(kept) if _overlap(region, other) > 0), None)
        if under is None:
            kept.append(region)
            continue
        notes.append("Two regions share pixels; the larger one is used.")
        if _scale(kept[under]) != _scale(region) and kept[under].calibrated:
            kept[under] = replace(kept[under], mm_per_pixel_x=None, mm_per_pixel_y=None)
            notes.append("No sizes: two regions give the same pixels different scales.")
    return tuple(sorted(kept, key=lambda region: (region.min_y0, region.min_x0)))


def _trimmed(region: Region, others: list[Region]) -> Region:
    """Halves of a dual screen may share their border: up to two columns or rows of it go to the larger."""
    for other in others:
        columns = min(region.max_x1, other.max_x1) - max(region.min_x0, other.min_x0) + 1
        rows = min(region.max_y1, other.max_y1) - max(region.min_y0, other.min_y0) + 1
        if 0 < columns <= BOUNDS_TOLERANCE_PIXELS < rows:
            left = region.min_x0 < other.min_x0
            region = (
                replace(region, max_x1=other.min_x0 - 1) if left else replace(region, min_x0=other.max_x1 + 1)
            )
        elif 0 < rows <= BOUNDS_TOLERANCE_PIXELS < columns:
            above = region.min_y0 < other.min_y0
            region = (
                replace(region, max_y1=other.min_y0 - 1)
                if above
                else replace(region, min_y0=other.max_y1 + 1)
            )
    return region


def _largest_first(region: Region) -> tuple[int, int, int, int, bool]:
    return -region.rows * region.columns, region.min_y0, region.min_x0, region.columns, not region.calibrated


def _scale(region: Region) -> tuple[float | None, float | None]:
    return region.mm_per_pixel_x, region.mm_per_pixel_y


def _overlap(one: Region, other: Region) -> int:
    """Pixels that both regions hold."""
    columns = min(one.max_x1, other.max_x1) - max(one.min_x0, other.min_x0) + 1
    rows = min(one.max_y1, other.max_y1) - max(one.min_y0, other.min_y0) + 1
    return max(columns, 0) * max(rows, 0)


def _covers(box: _Item, region: Region) -> bool:
    """Whether a colour box is what is seen where it overlaps the region (high priority flag)."""
    return box.high_priority and _overlap(box.region, region) > 0


def _pixel_spacing_notes(header: Dataset, regions: tuple[Region, ...]) -> list[str]:
    try:
        row_mm, column_mm = (float(value) for value in header.get("PixelSpacing") or ())
    except (TypeError, ValueError):
        return []
    calibrated = [region for region in regions if region.calibrated]
    if not calibrated:
        return ["No sizes: Pixel Spacing alone is no calibration of an ultrasound image; its regions are."]
    for region in calibrated:
        spacing = ((row_mm, region.mm_per_pixel_y), (column_mm, region.mm_per_pixel_x))
        if any(abs(one - (other or 0)) > SPACING_TOLERANCE * (other or 1) for one, other in spacing):
            return ["Pixel Spacing contradicts the calibration of the region; the region's is used."]
    return []


def textured_blocks(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which 8 x 8 blocks look like speckle: most pixels above the background, and not all the same.

    Returns bool (rows // 8, columns // 8). Thin text on a dark screen fills too little of a block.
    """
    rows, columns = (size // BLOCK_PIXELS for size in grey.shape)
    blocks = grey[: rows * BLOCK_PIXELS, : columns * BLOCK_PIXELS].astype(np.float32)
    blocks = blocks.reshape(rows, BLOCK_PIXELS, columns, BLOCK_PIXELS)
    above = (blocks > _BACKGROUND_GREY).mean(axis=(1, 3)) >= 0.5
    textured: npt.NDArray[np.bool_] = above & (blocks.std(axis=(1, 3)) >= _FLAT_GREY_DEVIATION)
    return textured


def content_region(grey: npt.NDArray[np.uint8]) -> Region | None:
    """The box around the largest patch of speckle, for an image whose header names no region.

    `grey` is uint8 (rows, columns) of the whole image. The region has no scale. None where there is no
    patch of at least 32 pixels a side: a black or a text screen. Borders of less than 5% stay.
    """
    mask = ndimage.binary_closing(np.pad(textured_blocks(grey), 2), iterations=2)[2:-2, 2:-2]
    labels, count = ndimage.label(mask)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    rows, columns = ndimage.find_objects(labels)[int(sizes.argmax())]
    height, width = grey.shape
    top, bottom = _snap(rows.start * BLOCK_PIXELS, rows.stop * BLOCK_PIXELS, height)
    left, right = _snap(columns.start * BLOCK_PIXELS, columns.stop * BLOCK_PIXELS, width)
    region = Region(left, top, right - 1, bottom - 1)
    return region if min(region.rows, region.columns) >= MINIMUM_SIDE_PIXELS else None


def _snap(start: int, stop: int, size: int) -> tuple[int, int]:
    """Widen a span to the image's edge where less than 5% (or a block) is between them."""
    margin = max(size * 0.05, BLOCK_PIXELS)
    return (0 if start <= margin else start), (size if size - stop <= margin else stop)
