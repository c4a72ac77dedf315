"""Judging lesions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.assess_lesions import CATEGORIES, category

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


def test_a_lesion_of_two_views_has_one_probability(analysed):
    result = analysed("benign, two views")
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
