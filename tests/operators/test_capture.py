"""Captures: the source's pixels untouched, the outline on the lesion, the words beside it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from operators.compose_report import compose_report
from operators.frame_pixels import stream_pixels
from operators.report.canvas import _GREY, _WHITE, SMALL, _font, wrap
from operators.report.capture import draw_lesion, draw_summary
from operators.report.composed import ObjectKind

TWO_VIEWS = "benign, two views"


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
