"""Captures: the source's pixels untouched, the outline on the lesion, the words beside it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from models.runtime.marks import Marks
from operators.compose_report import compose_report
from operators.findings import StudyResult
from operators.frame_pixels import stream_pixels
from operators.report.canvas import _GREY, _WHITE, SMALL, _font, dotted, wrap
from operators.report.capture import draw_lesion, draw_summary, lay_out_summary
from operators.report.composed import ObjectKind, Predecessor, ReportContext
from operators.study import Reason, SetAside
from tests.operators.conftest import AT

TWO_VIEWS = "benign, two views"
NO_MARKS = Marks(np.zeros((2, 2), bool), np.zeros((2, 2), bool))


def test_pixels_away_from_the_outline_are_the_sources(analysed, context):
    result = analysed(TWO_VIEWS)
    (lesion,) = result.lesions
    view = lesion.key_view
    picture = draw_lesion(lesion, result, context)
    ((_, grey),) = stream_pixels([view.frame])
    rows, columns = grey.shape
    shown = picture[:rows, :columns]
    same = (shown == grey[:, :, None]).all(axis=2) | view.shown.marks.blocks
    border = view.mask ^ ndimage.binary_erosion(view.mask)
    near = ndimage.binary_dilation(border, iterations=4)
    assert same[~near].all(), "only the outline is drawn on the anatomy"
    x = view.outline[:, 0] - view.frame.region.min_x0
    y = view.outline[:, 1] - view.frame.region.min_y0
    inside = np.zeros_like(same)
    inside[int(y.mean()) - 5 : int(y.mean()) + 5, int(x.mean()) - 5 : int(x.mean()) + 5] = True
    assert same[inside].all(), "the lesion itself is not painted over"


def test_nothing_is_told_by_colour_and_all_text_is_readable_on_black(analysed, context):
    """WCAG 2.1, 1.4.1 and 1.4.6: no hue at all, a contrast of at least 7 to 1."""
    result = analysed(TWO_VIEWS)
    (lesion,) = result.lesions
    pictures = [draw_summary(result, context), draw_lesion(lesion, result, context)]
    for picture in pictures:
        assert (picture == picture[:, :, :1]).all()
    panel = pictures[1][:, lesion.key_view.frame.region.columns :, 0]
    for shade in (_GREY, _WHITE):
        assert (panel == shade[0]).any()
        luminance = ((shade[0] / 255 + 0.055) / 1.055) ** 2.4
        assert (luminance + 0.05) / 0.05 >= 7


def test_viewers_write_over_the_corners_and_hide_nothing(analysed, context):
    result = analysed(TWO_VIEWS)
    (lesion,) = result.lesions
    assert not draw_summary(result, context)[:60].any()
    assert not draw_summary(result, context)[-50:].any()
    assert not draw_lesion(lesion, result, context)[:60, lesion.key_view.frame.region.columns :].any()


def of_many(result: StudyResult, lesions: int, notes: int, aside: int) -> StudyResult:
    """The result as if it had so many lesions, notes and different reasons for setting aside."""
    (one,) = result.lesions
    return dataclasses.replace(
        result,
        lesions=tuple(dataclasses.replace(one, number=number) for number in range(1, lesions + 1)),
        warnings=tuple(f"{number}: " + "words of a long note " * 8 for number in range(notes)),
        set_aside=tuple(
            SetAside(Reason.NOT_DICOM, f"cause {number}", "1.2", None, "x") for number in range(aside)
        ),
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 10), st.integers(0, 10), st.booleans())
def test_nothing_on_the_summary_overlaps_however_much_it_says(analysed, lesions, notes, aside, replaces):
    context = ReportContext(composed_at=AT, result_number=2)
    if replaces:
        context = dataclasses.replace(context, predecessor=Predecessor(1, AT, "1.2", "1.2.3", "1.2.4"))
    canvas = lay_out_summary(of_many(analysed(TWO_VIEWS), lesions, notes, aside), context)
    assert len([box for box in canvas.boxes if not box.words]) == min(2 * lesions, 3)
    for one, other in itertools.combinations(canvas.boxes, 2):
        assert not one.overlaps(other), (one, other)
    picture = canvas.pixels
    rows, columns = picture.shape[:2]
    for box in canvas.boxes:
        assert 60 <= box.top < box.bottom <= rows - 50
        assert 0 <= box.left < box.right <= columns
    assert not picture[:60].any()
    assert not picture[-50:].any()
    text = " ".join(box.words for box in canvas.boxes)
    assert text.index("Result 2, ") > max(text.rfind("Note: "), text.rfind("Set aside: "), 0)
    assert text.count("Note: ") + text.count("Set aside: ") >= min(notes + aside, 9)
    assert ("more remarks in the report" in text) == (notes + aside + bool(lesions and covers(analysed)) > 10)


def covers(analysed) -> bool:
    """Whether the summary says that marks were covered."""
    return any(view.shown.marks.mask.any() for view in analysed(TWO_VIEWS).lesions[0].image_views)


def test_each_capture_names_its_source_and_is_not_an_original(analysed, context):
    result = analysed(TWO_VIEWS)
    captures = [one for one in compose_report(result, context).objects if "capture" in one.kind.value]
    assert [one.kind for one in captures] == [ObjectKind.SUMMARY_CAPTURE, ObjectKind.LESION_CAPTURE]
    for one in captures:
        dataset = one.dataset
        assert (dataset.Modality, dataset.SeriesNumber, dataset.ConversionType) == ("OT", 9002, "WSD")
        assert list(dataset.ImageType) == ["DERIVED", "SECONDARY"]
        assert dataset.PhotometricInterpretation == "RGB"
        assert dataset.SourceImageSequence
        assert "SequenceOfUltrasoundRegions" not in dataset


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [("maximum_lesion_captures", 0, 1), ("summary_capture", "with-findings", 2)],
)
def test_settings_decide_which_captures_are_made(analysed, context, setting, value, expected):
    changed = dataclasses.replace(context, **{setting: value})
    assert len(compose_report(analysed(TWO_VIEWS), changed).objects) - 1 == expected


def test_without_findings_the_summary_can_be_left_out(analysed, context):
    changed = dataclasses.replace(context, summary_capture="with-findings")
    assert len(compose_report(analysed("not breast ultrasound"), changed).objects) == 1


def test_a_modality_setting_reaches_the_captures(analysed, context):
    changed = dataclasses.replace(context, capture_modality="US")
    objects = compose_report(analysed(TWO_VIEWS), changed).objects
    assert {one.dataset.Modality for one in objects[1:]} == {"US"}


@given(st.text(max_size=300), st.integers(60, 900))
def test_lines_stay_inside_their_width(words, width):
    assert all(_font(SMALL).getlength(line) <= width for line in wrap(words, width))


@pytest.mark.parametrize("shade", [0, 80, 114, 115, 200, 255])
def test_a_dotted_line_goes_round_what_is_made_up_and_nothing_else_changes(shade):
    grey = np.full((60, 80), shade, np.uint8)
    patches = np.zeros_like(grey, bool)
    patches[10:30, 20:70] = patches[50:, :15] = True
    drawn = dotted(grey, patches)
    changed = drawn != grey
    edge = patches & ~ndimage.binary_erosion(patches)
    assert not (changed & ~edge).any()
    assert 0.4 < changed[edge].mean() < 0.6
    assert np.abs(drawn[changed].astype(int) - shade).min() >= 50, "seen on light and on dark"
    near = ndimage.maximum_filter(changed, 5)
    assert near[edge].all(), "all the way round"


def test_both_captures_mark_what_is_made_up(analysed, context):
    result = analysed("calibrated")
    view = result.lesions[0].key_view
    edge = view.shown.marks.blocks & ~ndimage.binary_erosion(view.shown.marks.blocks)
    away = edge & ~ndimage.binary_dilation(view.mask, iterations=6)
    assert away.any()
    shown = draw_lesion(result.lesions[0], result, context)[: edge.shape[0], : edge.shape[1], 0]
    assert 0.3 < (shown != view.shown.grey)[away].mean() < 0.7
    plain = dataclasses.replace(view, shown=dataclasses.replace(view.shown, marks=NO_MARKS))
    track = dataclasses.replace(result.lesions[0].tracks[0], views=(plain,))
    bare = dataclasses.replace(result, lesions=(dataclasses.replace(result.lesions[0], tracks=(track,)),))
    (picture,) = (box for box in lay_out_summary(result, context).boxes if not box.words)
    where = np.s_[picture.top : picture.bottom, picture.left : picture.right]
    assert (draw_summary(result, context)[where] != draw_summary(bare, context)[where]).any()
