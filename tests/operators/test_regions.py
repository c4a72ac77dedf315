"""Calibration of the corpus and of made headers; geometry by properties."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from operators.outline import measure
from operators.read_header import read_header
from operators.regions import content_region, read_regions
from operators.study import Region
from tests.operators.made_files import region, speckle, with_regions

MM_PER_PIXEL = {
    "synthetic-cal-anisotropic": (0.12, 0.09),
    "synthetic-cal-negativedelta": (0.12, 0.12),
    "synthetic-cal-pixelspacing-conflict": (0.12, 0.12),
    "synthetic-cal-doppler": (0.12, 0.12),
    "synthetic-cal-absurd": None,
    "synthetic-cal-nounits": None,
    "synthetic-cal-zerodelta": None,
    "synthetic-cal-outofbounds": None,
}
SAID = {
    "synthetic-cal-pixelspacing-conflict": "Pixel Spacing contradicts",
    "synthetic-cal-pixelspacing-only": "Pixel Spacing alone",
    "synthetic-cal-absurd": "12 x 12 cm",
    "synthetic-cal-nounits": "not in centimetres",
    "synthetic-cal-zerodelta": "zero",
    "synthetic-cal-outofbounds": "beyond the image",
}


def header(*items: Dataset, rows: int = 256, columns: int = 256) -> Dataset:
    ds = Dataset()
    ds.Rows, ds.Columns = rows, columns
    return with_regions(ds, *items)


@pytest.mark.parametrize("name", MM_PER_PIXEL)
def test_scale_of_the_corpus(dicom_us: Path, name: str) -> None:
    (one,) = read_regions(read_header(dicom_us / f"{name}.dcm").dataset).regions
    expected = MM_PER_PIXEL[name]
    if expected is None:
        assert not one.calibrated
    else:
        assert (one.mm_per_pixel_x, one.mm_per_pixel_y) == pytest.approx(expected)


@pytest.mark.parametrize("name", SAID)
def test_what_is_not_used_is_said(dicom_us: Path, name: str) -> None:
    assert SAID[name] in " ".join(read_regions(read_header(dicom_us / f"{name}.dcm").dataset).warnings)


@pytest.mark.parametrize("name", ["synthetic-cal-nocal", "synthetic-cal-pixelspacing-only"])
def test_without_regions_there_is_none(dicom_us: Path, name: str) -> None:
    reading = read_regions(read_header(dicom_us / f"{name}.dcm").dataset)
    assert reading.regions == ()
    assert not reading.only_other_kinds


def test_the_spectrum_below_the_image_is_not_tissue(dicom_us: Path) -> None:
    (one,) = read_regions(read_header(dicom_us / "synthetic-cal-doppler.dcm").dataset).regions
    assert (one.min_y0, one.max_y1) == (0, 127)


def test_a_colour_box_of_high_priority_takes_the_region_below_it(dicom_us: Path) -> None:
    reading = read_regions(read_header(dicom_us / "synthetic-cal-overlap-elasto.dcm").dataset)
    assert reading.regions == ()
    assert len(reading.under_colour) == 1


def test_real_files_give_the_true_region_not_the_first(dicom_us: Path) -> None:
    boxes = {
        "weasis-ybrFull-RLE.dcm": (84, 48, 483, 415),
        "fodicom-DIRW0007.dcm": (27, 48, 548, 391),
        "cornerstone-no-pixel-spacing.dcm": (120, 60, 799, 518),
    }
    for name, box in boxes.items():
        (one,) = read_regions(read_header(dicom_us / name).dataset).regions
        assert (one.min_x0, one.min_y0, one.max_x1, one.max_y1) == box
    aloka = read_regions(read_header(dicom_us / "pydicomdata-gdcm-US-ALOKA-16.dcm").dataset).regions
    assert [one.min_x0 for one in aloka] == [32, 336]


def ellipse(cx: float, cy: float, semi_x: float, semi_y: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Its outline, float32 (360, 2): (column, row)."""
    angle = np.radians(np.arange(360))
    return np.stack((cx + semi_x * np.cos(angle), cy + semi_y * np.sin(angle)), axis=1).astype(np.float32)


def test_sizes_of_the_phantoms_are_those_they_were_drawn_with(dicom_us: Path) -> None:
    truth = json.loads((dicom_us / "synthetic-truth.json").read_text())
    lesion = truth["synthetic-breast-mono-explicit.dcm"]
    (one,) = read_regions(read_header(dicom_us / "synthetic-breast-mono-explicit.dcm").dataset).regions
    size = measure(ellipse(**lesion["lesion_ellipse_px"]), one)
    assert size is not None
    assert size.long_axis_mm == pytest.approx(lesion["long_axis_mm"])
    assert size.short_axis_mm == pytest.approx(lesion["short_axis_mm"])
    assert size.area_mm2 == pytest.approx(lesion["area_mm2"], rel=0.001)


def test_the_halves_of_a_dual_screen_have_their_own_scales(dicom_us: Path) -> None:
    name = "synthetic-breast-rgb-dual-region.dcm"
    truth = json.loads((dicom_us / "synthetic-truth.json").read_text())[name]
    halves = read_regions(read_header(dicom_us / name).dataset).regions
    left, right = (
        measure(outline, half)
        for outline, half in zip((ellipse(160, 170, 60, 40), ellipse(470, 190, 45, 60)), halves, strict=True)
    )
    assert left is not None
    assert right is not None
    assert left.long_axis_mm == pytest.approx(truth["regions"][0]["long_axis_mm"])
    assert right.long_axis_mm == pytest.approx(truth["regions"][1]["long_axis_mm"])


def test_without_a_scale_there_is_no_size() -> None:
    assert measure(ellipse(50, 50, 20, 10), Region(0, 0, 99, 99)) is None


def test_one_pixel_of_overhang_is_clipped_and_keeps_its_scale() -> None:
    (one,) = read_regions(header(region(0, 0, 256, 255))).regions
    assert one.max_x1 == 255
    assert one.calibrated


def test_a_region_lost_beyond_the_image_or_without_bounds_is_said() -> None:
    lost, unbound = region(300, 300, 400, 400), region(0, 0, 99, 99)
    del unbound.RegionLocationMaxX1
    reading = read_regions(header(lost, unbound))
    assert reading.regions == ()
    assert len(reading.warnings) == 2


def test_two_scales_for_the_same_pixels_are_none() -> None:
    (one,) = read_regions(header(region(0, 0, 255, 255), region(50, 50, 150, 150, 0.02))).regions
    assert one.columns == 256
    assert not one.calibrated
    (one,) = read_regions(header(region(0, 0, 255, 255), region(0, 0, 255, 255))).regions
    assert one.calibrated


def test_a_colour_box_of_low_priority_leaves_the_region() -> None:
    box = region(60, 60, 160, 160, RegionDataType=2)
    assert len(read_regions(header(region(0, 0, 255, 255), box)).regions) == 1
    box.RegionFlags = 1
    assert read_regions(header(region(0, 0, 255, 255), box)).regions == ()


def test_a_colour_box_beside_the_region_leaves_it() -> None:
    box = region(130, 0, 255, 255, RegionDataType=2, RegionFlags=1)
    assert len(read_regions(header(region(0, 0, 120, 255), box)).regions) == 1


@pytest.mark.parametrize("spatial_format", [2, 3, 4, 5])
def test_a_header_with_only_other_kinds_says_so(spatial_format: int) -> None:
    assert read_regions(header(region(0, 0, 255, 255, RegionSpatialFormat=spatial_format))).only_other_kinds


def test_a_region_that_says_nothing_is_as_none() -> None:
    nothing = region(0, 0, 255, 255, RegionSpatialFormat=0, RegionDataType=0)
    assert not read_regions(header(nothing)).only_other_kinds


COORDINATE = st.integers(-(2**31), 2**32 - 1).map(lambda value: value % 2**32)
NEAR = st.integers(0, 400)
DELTA = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(-0.3, 0.3))


@given(
    st.lists(
        st.tuples(
            *[st.one_of(COORDINATE, NEAR)] * 4,
            DELTA,
            DELTA,
            st.integers(0, 6),
            st.integers(0, 12),
            st.integers(0, 13),
            st.integers(0, 31),
        ),
        max_size=4,
    )
)
def test_whatever_a_header_says_regions_lie_in_the_image_apart_and_plausible(
    items: list[tuple[int, int, int, int, float, float, int, int, int, int]],
) -> None:
    made = []
    for x0, y0, x1, y1, dx, dy, spatial_format, data_type, units, flags in items:
        made.append(
            region(
                x0,
                y0,
                x1,
                y1,
                dx,
                PhysicalDeltaY=dy,
                RegionSpatialFormat=spatial_format,
                RegionDataType=data_type,
                PhysicalUnitsXDirection=units,
                RegionFlags=flags,
            )
        )
    reading = read_regions(header(*made, rows=200, columns=300))
    covered = np.zeros((200, 300), int)
    for one in reading.regions:
        assert 0 <= one.min_x0 <= one.max_x1 < 300
        assert 0 <= one.min_y0 <= one.max_y1 < 200
        covered[one.min_y0 : one.max_y1 + 1, one.min_x0 : one.max_x1 + 1] += 1
        if one.calibrated:
            assert one.mm_per_pixel_x is not None
            assert one.mm_per_pixel_y is not None
            assert 0.01 <= one.mm_per_pixel_x <= 2
            assert 0.5 <= one.mm_per_pixel_x / one.mm_per_pixel_y <= 2
    assert covered.max(initial=0) <= 1


def test_content_is_found_between_text_and_borders() -> None:
    screen = np.zeros((480, 640), np.uint8)
    screen[48:400, 80:560] = speckle(352, 480)
    for row in range(420, 470, 12):  # lines of text: thin strokes on black
        screen[row : row + 8, 20:600:6] = 220
    found = content_region(screen)
    assert found is not None
    assert abs(found.min_x0 - 80) <= 16
    assert abs(found.max_x1 - 559) <= 16
    assert abs(found.min_y0 - 48) <= 16
    assert abs(found.max_y1 - 399) <= 16
    assert not found.calibrated


def test_a_picture_filled_with_tissue_stays_whole() -> None:
    found = content_region(speckle(301, 407))
    assert found == Region(0, 0, 406, 300)


def test_a_screen_without_tissue_has_no_content() -> None:
    text = np.zeros((480, 640), np.uint8)
    text[20:460:16, 20:600:5] = 255
    assert content_region(text) is None
    assert content_region(np.zeros((480, 640), np.uint8)) is None
    assert content_region(np.full((480, 640), 90, np.uint8)) is None
    assert content_region(np.zeros((3, 3), np.uint8)) is None
