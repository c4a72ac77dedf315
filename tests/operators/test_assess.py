"""Joining views and judging lesions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from operators.assess_lesions import CATEGORIES, category
from operators.findings import LesionView, Measurement, Track
from operators.join_views import join_views
from operators.study import Frame, Instance, Region

share = st.floats(0, 1)


@given(st.tuples(share, share, share).map(sorted))
def test_a_category_follows_its_interval(values):
    low, probability, high = values
    given = category(low, probability, high)
    assert given in (*CATEGORIES, None)
    assert given != "2", "there is no probability so low that an AI may say benign"
    if given == "3":
        assert high <= 0.02
    if given == "5":
        assert low >= 0.95


@given(share, share)
def test_a_sharper_probability_never_lowers_the_category(one, other):
    low, high = sorted((one, other))
    first, second = category(low, low, low), category(high, high, high)
    assert first is not None
    assert second is not None
    assert CATEGORIES.index(first) <= CATEGORIES.index(second)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 0.01, 0.02), "3"),
        ((0.0, 0.01, 0.03), "4A"),
        ((0.05, 0.07, 0.10), "4A"),
        ((0.2, 0.3, 0.4), "4B"),
        ((0.5, 0.51, 0.6), "4C"),
        ((0.94, 0.97, 0.99), "4C"),
        ((0.95, 0.97, 0.99), "5"),
        ((0.01, 0.3, 0.97), None),
    ],
)
def test_the_bounds_are_the_atlas(values, expected):
    assert category(*values) == expected


def _view(
    image: str,
    frame: int,
    box: tuple[int, int, int, int],
    side: str | None = None,
    hour: int | None = None,
) -> LesionView:
    """A view with a square lesion: (left, top, right, bottom) in a region of 100 x 100 pixels."""
    left, top, right, bottom = box
    instance = Instance(None, "0", "1.2", image, "1.3", "1.4", "1.5", 100, 100, 30, Dataset())  # type: ignore[arg-type]
    mask = np.zeros((100, 100), bool)
    mask[top:bottom, left:right] = True
    outline = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    grey = np.zeros((100, 100), np.uint8)
    return LesionView(
        frame=Frame(instance, frame, Region(0, 0, 99, 99), side, hour),
        outline=outline,
        grey=grey,
        mask=mask,
        clean=grey,
        detection_score=0.9,
    )


def joined(views: Sequence[LesionView]) -> list[list[LesionView]]:
    """Views of stills, joined to lesions."""
    tracks = [Track((view,), (view.frame.frame_number,)) for view in views]
    return [[track.views[0] for track in lesion] for lesion in join_views(tracks)]


def test_two_views_of_one_lesion_are_one():
    lesions = joined([_view("1.1", 1, (20, 20, 50, 40)), _view("1.2", 1, (40, 30, 65, 60))])
    assert [len(lesion) for lesion in lesions] == [2]


def test_lesions_side_by_side_stay_two():
    views = [_view("1.1", 1, (5, 5, 30, 30)), _view("1.1", 1, (60, 60, 90, 90))]
    assert [len(lesion) for lesion in joined(views)] == [1, 1]


def test_two_lesions_in_two_views_are_two_by_their_size():
    views = [
        _view("1.1", 1, (5, 5, 15, 15)),
        _view("1.1", 1, (40, 40, 80, 80)),
        _view("1.2", 1, (70, 70, 81, 81)),
        _view("1.2", 1, (10, 10, 48, 52)),
    ]
    lesions = joined(views)
    assert [len(lesion) for lesion in lesions] == [2, 2]
    for first, second in lesions:
        assert 0.5 < first.mask.sum() / second.mask.sum() < 2


def test_sides_are_never_joined():
    views = [_view("1.1", 1, (20, 20, 50, 50), "L"), _view("1.2", 1, (20, 20, 50, 50), "R")]
    assert [len(lesion) for lesion in joined(views)] == [1, 1]


def test_clock_positions_are_never_joined_and_silence_joins():
    views = [_view(f"1.{hour}", 1, (20, 20, 50, 50), "L", hour) for hour in (2, 9)]
    assert [len(lesion) for lesion in joined(views)] == [1, 1]
    views.append(_view("1.99", 1, (20, 20, 51, 50), "L"))
    assert sorted(len(lesion) for lesion in joined(views)) == [1, 2]


def test_many_views_are_joined_in_no_time():
    views = [
        _view(f"1.{image}", 1, (5 + 45 * place, 5, 35 + 45 * place, 30 + 12 * place))
        for image in range(1, 121)
        for place in (0, 1)
    ]
    started = time.process_time()
    assert sorted(len(lesion) for lesion in joined(views)) == [120, 120]
    assert time.process_time() - started < 10


def test_sizes_in_millimetres_decide_where_there_are_any():
    small, large = _view("1.1", 1, (20, 20, 30, 30)), _view("1.2", 1, (20, 20, 60, 60))
    assert len(joined([small, large])) == 2
    same = [replace(view, measurement=Measurement(10.0, 8.0, 60.0)) for view in (small, large)]
    assert len(joined(same)) == 1


@given(st.permutations(range(6)))
def test_the_order_of_views_decides_nothing(order):
    views = [
        _view(
            f"1.{1 + index // 2}", 1, (5 + 40 * (index % 2), 5, 35 + 40 * (index % 2), 30 + 5 * (index % 2))
        )
        for index in range(6)
    ]
    expected = [[view.frame.key for view in lesion] for lesion in joined(views)]
    assert [[view.frame.key for view in lesion] for lesion in joined([views[i] for i in order])] == expected


def test_a_lesion_of_two_views_has_one_probability(analysed):
    result = analysed("malignant, two views")
    assert len(result.lesions) == 1
    (lesion,) = result.lesions
    assert len(lesion.views) == 2
    assert result.probability == lesion.assessment.probability
    given = lesion.assessment
    assert 0 <= given.probability_low <= given.probability <= given.probability_high <= 1


def test_what_is_not_breast_ultrasound_is_set_aside(analysed):
    result = analysed("not breast ultrasound")
    assert result.lesions == ()
    assert result.frames == ()
    assert [one.reason.value for one in result.set_aside] == ["not-breast-ultrasound-by-pixels"]
