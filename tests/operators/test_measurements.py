"""Measurements against the truth of phantoms: geometry on the drawn shape, and end to end with the models."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtime.loaded import Models
from operators.compose_report import compose_report
from operators.find_lesions import find_lesions
from operators.findings import Measurement
from operators.load_study import load_study
from operators.outline import measure, outline_of
from operators.read_header import read_header
from operators.regions import read_regions
from operators.report.wording import measured_text
from operators.select_frames import select_frames
from operators.study import Region
from tests.operators.made_files import image, region, save, with_regions
from tests.operators.test_report import complaints
from tests.phantoms import Ellipse, draw, tissue

# The drawn lesion of every `synthetic-cal-*` phantom: centre (128, 110), half axes 50 and 30 pixels.
CAL = Ellipse(128.5, 110.5, 50, 30)
# File: (width, height) of a pixel in mm, or why there is no size; whether the lesion is cut by its region.
CORNER_CASES: dict[str, tuple[tuple[float, float] | None, bool]] = {
    "nocal": (None, False),
    "zerodelta": (None, False),
    "negativedelta": ((0.12, 0.12), False),
    "nounits": (None, False),
    "anisotropic": ((0.12, 0.09), False),
    "outofbounds": (None, False),
    "absurd": (None, False),
    "doppler": ((0.12, 0.12), True),
    "overlap-elasto": (None, False),
    "pixelspacing-only": (None, False),
    "pixelspacing-conflict": ((0.12, 0.12), False),
}


def truth(lesion: Ellipse, mm: tuple[float, float]) -> Measurement:
    """Analytic size of an ellipse that is not turned."""
    width, height = 2 * lesion.along * mm[0], 2 * lesion.across * mm[1]
    return Measurement(max(width, height), min(width, height), math.pi * width * height / 4, width, height)


def assert_close(size: Measurement, true: Measurement, mm: tuple[float, float]) -> None:
    """At most one pixel plus three per cent on every length; on the area as on both its axes."""
    pixel = max(mm)
    for name in ("long_axis_mm", "short_axis_mm", "width_mm", "height_mm"):
        given, expected = getattr(size, name), getattr(true, name)
        assert abs(given - expected) <= pixel + 0.03 * expected, f"{name}: {given:.2f}, truth {expected:.2f}"
    limit = (true.long_axis_mm * 1.03 + pixel) * (true.short_axis_mm * 1.03 + pixel) * math.pi / 4
    assert abs(size.area_mm2 - true.area_mm2) <= limit - true.area_mm2


def test_every_corner_case_is_in_the_table(dicom_us: Path) -> None:
    files = {path.stem.removeprefix("synthetic-cal-") for path in dicom_us.glob("synthetic-cal-*.dcm")}
    assert files == set(CORNER_CASES)


@pytest.mark.parametrize("case", CORNER_CASES)
def test_corner_cases_of_calibration_on_the_drawn_shape(dicom_us: Path, case: str) -> None:
    mm, cut = CORNER_CASES[case]
    header = read_header(dicom_us / f"synthetic-cal-{case}.dcm").dataset
    where = next(iter(read_regions(header).regions), None) or Region(0, 0, 255, 255)
    mask = (CAL.radius((256, 256)) < 1)[where.min_y0 : where.max_y1 + 1, where.min_x0 : where.max_x1 + 1]
    size = measure(outline_of(mask, where), where)
    if mm is None:
        assert size is None
        return
    assert size is not None
    assert size.cut is cut
    if cut:
        assert size.parallel is None
        assert size.height_mm < 2 * CAL.across * mm[1], "what lies beyond the picture is not guessed"
        assert "at least" in measured_text(size)
    else:
        assert_close(size, truth(CAL, mm), mm)
        assert size.parallel is True


@pytest.fixture(scope="module")
def ungated(models: Models) -> Models:
    """The models without their gate, which rightly holds a phantom not to be breast ultrasound."""
    return replace(models, lesion=replace(models.lesion, gate=None))


def found(paths: list[Path], models: Models) -> list[Measurement | None]:
    (study,) = load_study(paths)
    selection = select_frames(study, maximum_frames_per_instance=12, maximum_frames_per_study=12)
    detections = find_lesions(selection, models.lesion, models.marks, maximum_lesions_per_frame=3)
    return [track.views[0].measurement for track in detections.tracks]


@pytest.mark.parametrize("case", [case for case in CORNER_CASES if case != "overlap-elasto"])
def test_corner_cases_of_calibration_end_to_end(dicom_us: Path, ungated: Models, case: str) -> None:
    mm, cut = CORNER_CASES[case]
    (size,) = found([dicom_us / f"synthetic-cal-{case}.dcm"], ungated)
    if mm is None:
        assert size is None
    elif cut:
        assert size is not None
        assert size.cut
    else:
        assert size is not None
        assert not size.cut
        assert_close(size, truth(CAL, mm), mm)


def test_the_main_phantom_has_its_size_and_its_depth_end_to_end(dicom_us: Path, ungated: Models) -> None:
    name = "synthetic-breast-mono-explicit.dcm"
    known = json.loads((dicom_us / "synthetic-truth.json").read_text())[name]
    drawn = known["lesion_ellipse_px"]
    lesion = Ellipse(drawn["cx"], drawn["cy"], drawn["semi_x"], drawn["semi_y"])
    mm = (known["delta_cm"] * 10,) * 2
    (size,) = found([dicom_us / name], ungated)
    assert size is not None
    assert_close(size, truth(lesion, mm), mm)
    depth = (drawn["cy"] - drawn["semi_y"] - known["region"][1]) * mm[1]
    assert size.depth_mm == pytest.approx(depth, rel=0.03, abs=mm[1])


def test_each_half_of_a_dual_screen_is_measured_at_its_own_scale(dicom_us: Path, ungated: Models) -> None:
    """The right half of this phantom shows colour and is set aside; the left is 0.09 mm a pixel."""
    name = "synthetic-breast-rgb-dual-region.dcm"
    known = json.loads((dicom_us / "synthetic-truth.json").read_text())[name]["regions"][0]
    (size,) = found([dicom_us / name], ungated)
    assert size is not None
    assert size.long_axis_mm == pytest.approx(known["long_axis_mm"], rel=0.03, abs=0.09)
    assert size.short_axis_mm == pytest.approx(known["short_axis_mm"], rel=0.03, abs=0.09)


def test_the_halves_of_a_real_dual_screen_have_one_scale_and_a_skin_line(dicom_us: Path) -> None:
    header = read_header(dicom_us / "pydicomdata-gdcm-US-ALOKA-16.dcm").dataset
    left, right = read_regions(header).regions
    for half, start in ((left, 32), (right, 336)):
        assert (half.min_x0, half.max_x1) == (start, start + 303)
        assert half.mm_per_pixel_x == pytest.approx(0.38265306)
        assert half.skin_y == 24 + 21, "its reference pixel is 21 rows below the region's top, at depth 0"


@pytest.mark.parametrize(
    ("attributes", "skin"),
    [
        ({"ReferencePixelY0": 0}, 10.0),
        ({"ReferencePixelY0": 21, "ReferencePixelPhysicalValueY": 0.0}, 31.0),
        ({"ReferencePixelY0": 50, "ReferencePixelPhysicalValueY": 0.5}, 10.0),
        ({"ReferencePixelY0": -30}, -20.0),
        ({"ReferencePixelY0": 90}, None),
        ({}, None),
    ],
)
def test_the_skin_is_where_the_reference_pixel_puts_it(attributes, skin):
    ds = image(np.zeros((120, 120), np.uint8))
    (one,) = read_regions(with_regions(ds, region(10, 10, 109, 109, 0.01, **attributes))).regions
    assert one.skin_y == (None if skin is None else pytest.approx(skin))


@given(st.integers(-(2**31), 2**31 - 1), st.floats(), st.floats(), st.integers(0, 60))
def test_whatever_a_reference_pixel_says_the_skin_is_nowhere_or_near(reference, value, delta, top):
    item = region(0, top, 99, top + 99, ReferencePixelY0=reference, ReferencePixelPhysicalValueY=value)
    item.PhysicalDeltaY = delta
    ds = image(np.zeros((200, 200), np.uint8))
    (one,) = read_regions(with_regions(ds, item)).regions
    assert one.skin_y is None or top - 200 <= one.skin_y < top + 50


@pytest.fixture
def composed(analysed, context, tmp_path):
    """Analyse one drawn lesion with a stated skin line at the top, and compose its report."""

    def compose(lesion):
        study = {"StudyDate": "20260504", "StudyTime": "120000", "StudyID": "1", "ImageLaterality": "L"}
        item = region(0, 0, 639, 479, 0.007, ReferencePixelX0=0, ReferencePixelY0=0)
        ds = with_regions(image(draw([lesion]), "drawn", **study), item)
        result = analysed((save(ds, tmp_path / "drawn"),))
        (only,) = result.lesions
        return only.views[0].measurement, compose_report(result, context)

    return compose


@pytest.mark.peers
def test_a_lesion_at_the_edge_is_a_lower_bound_in_report_and_page(composed, tmp_path):
    size, report = composed(Ellipse(20, 220, 90, 60))
    assert size.cut
    assert "at least" in report.page
    said = str(report.objects[0].dataset)
    assert "'CUT'" in said
    assert "'111354'" not in said, "no orientation of what goes on beyond the picture"
    assert complaints(report, tmp_path) == []


@pytest.mark.peers
def test_depth_and_orientation_are_in_the_report(composed, tmp_path):
    size, report = composed(Ellipse(320, 240, 55, 85))
    assert size.depth_mm == pytest.approx((240 - 85) * 0.07, rel=0.03, abs=0.07)
    said = str(report.objects[0].dataset)
    assert "'111356'" in said
    assert "'121243'" in said
    assert "not parallel" in report.page
    facts = report.summary["lesions"][0]
    assert facts["parallel"] is False
    assert facts["depth_mm"] == round(size.depth_mm, 1)
    assert complaints(report, tmp_path) == []


# Invariances ---------------------------------------------------------------------------------------------

HALF = st.floats(12, 45)
SCALE = st.floats(0.03, 0.2)


@settings(deadline=None, max_examples=60)
@given(HALF, HALF, st.floats(0, 180), SCALE)
def test_turning_an_ellipse_changes_neither_axes_nor_area(along, across, degrees, scale):
    where = Region(0, 0, 199, 199, scale, scale)
    size = measure(outline_of(Ellipse(100, 100, along, across, degrees).radius((200, 200)) < 1, where), where)
    true = truth(Ellipse(0, 0, along, across), (scale, scale))
    assert size.long_axis_mm == pytest.approx(true.long_axis_mm, rel=0.03, abs=scale)
    assert size.area_mm2 == pytest.approx(true.area_mm2, rel=0.04)
    # Of a nearly round shape any diameter may be the longest; the short axis then is one of the others.
    assert true.short_axis_mm - 1.5 * scale <= size.short_axis_mm <= size.long_axis_mm + scale


@settings(deadline=None, max_examples=60)
@given(HALF, HALF, SCALE, st.floats(0.5, 2))
def test_scales_that_differ_give_the_ellipse_they_stretch_it_to(along, across, scale, ratio):
    mm = (scale, scale * ratio)
    where = Region(0, 0, 199, 199, *mm)
    shape = Ellipse(100, 100, along, across)
    size = measure(outline_of(shape.radius((200, 200)) < 1, where), where)
    assert_close(size, truth(shape, mm), mm)
    assert size.parallel is (size.width_mm > size.height_mm)


@settings(deadline=None, max_examples=40)
@given(HALF, HALF, st.integers(0, 300), st.integers(0, 200))
def test_the_place_of_a_region_changes_no_size(along, across, column, row):
    mask = Ellipse(100, 100, along, across).radius((200, 200)) < 1
    here = Region(0, 0, 199, 199, 0.1, 0.1, skin_y=0.0)
    there = Region(column, row, column + 199, row + 199, 0.1, 0.1, skin_y=float(row))
    one, other = measure(outline_of(mask, here), here), measure(outline_of(mask, there), there)
    for name in ("long_axis_mm", "short_axis_mm", "area_mm2", "width_mm", "height_mm", "depth_mm"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3), name
    assert one.cut is other.cut is False


@settings(deadline=None, max_examples=40)
@given(st.integers(-60, 260), st.integers(-60, 260))
def test_a_lesion_is_cut_exactly_where_it_leaves_the_region(x, y):
    mask = Ellipse(x, y, 40, 30).radius((200, 200)) < 1
    inside = x - 40 >= 5 and x + 40 <= 195 and y - 30 >= 5 and y + 30 <= 195
    beyond = x - 40 < 0 or x + 40 > 200 or y - 30 < 0 or y + 30 > 200
    where = Region(0, 0, 199, 199, 0.1, 0.1)
    if mask.any():
        size = measure(outline_of(mask, where), where)
        assert size.cut or not beyond
        assert not size.cut or not inside


def test_tissue_of_the_phantoms_is_real_and_empty(models: Models) -> None:
    seen = models.lesion.find(tissue())
    assert seen.familiar
    assert seen.lesions == ()
