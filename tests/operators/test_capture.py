"""Captures: the source's pixels untouched, the outline on the lesion, the words beside it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.compose_report import compose_report
from operators.report.canvas import SMALL, _font, wrap
from operators.report.capture import draw_lesion
from operators.report.composed import ObjectKind

MALIGNANT = "malignant, two views"


def test_pixels_away_from_the_outline_are_the_sources(analysed, context):
    result = analysed(MALIGNANT)
    (lesion,) = result.lesions
    view = lesion.key_view
    picture = draw_lesion(lesion, result, context)
    rows, columns = view.frame.grey.shape
    shown = picture[:rows, :columns]
    same = (shown == view.frame.grey[:, :, None]).all(axis=2)
    changed = np.argwhere(~same)
    x = view.outline[:, 0] - view.frame.region.min_x0
    y = view.outline[:, 1] - view.frame.region.min_y0
    low, high = np.array([y.min() - 25, x.min() - 4]), np.array([y.max() + 4, x.max() + 45])
    assert ((changed >= low) & (changed <= high)).all(), "only outline and label are drawn on the anatomy"
    inside = np.zeros_like(same)
    inside[int(y.mean()) - 5 : int(y.mean()) + 5, int(x.mean()) - 5 : int(x.mean()) + 5] = True
    assert same[inside].all(), "the lesion itself is not painted over"


def test_each_capture_names_its_source_and_is_not_an_original(analysed, context):
    result = analysed(MALIGNANT)
    captures = [one for one in compose_report(result, context).objects if "capture" in one.kind.value]
    assert [one.kind for one in captures] == [ObjectKind.SUMMARY_CAPTURE, ObjectKind.LESION_CAPTURE]
    for one in captures:
        dataset = one.dataset
        assert (dataset.Modality, dataset.SeriesNumber, dataset.ConversionType) == ("OT", 9002, "WSD")
        assert list(dataset.ImageType) == ["DERIVED", "SECONDARY"]
        assert (dataset.PhotometricInterpretation, dataset.BurnedInAnnotation) == ("RGB", "NO")
        assert dataset.SourceImageSequence
        assert "SequenceOfUltrasoundRegions" not in dataset


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [("maximum_lesion_captures", 0, 1), ("summary_capture", "with-findings", 2)],
)
def test_settings_decide_which_captures_are_made(analysed, context, setting, value, expected):
    changed = dataclasses.replace(context, **{setting: value})
    assert len(compose_report(analysed(MALIGNANT), changed).objects) - 1 == expected


def test_without_findings_the_summary_can_be_left_out(analysed, context):
    changed = dataclasses.replace(context, summary_capture="with-findings")
    assert len(compose_report(analysed("not breast ultrasound"), changed).objects) == 1


def test_a_modality_setting_reaches_the_captures(analysed, context):
    changed = dataclasses.replace(context, capture_modality="US")
    objects = compose_report(analysed(MALIGNANT), changed).objects
    assert {one.dataset.Modality for one in objects[1:]} == {"US"}


@given(st.text(max_size=300), st.integers(60, 900))
def test_lines_stay_inside_their_width(words, width):
    assert all(_font(SMALL).getlength(line) <= width for line in wrap(words, width))
