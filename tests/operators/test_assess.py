"""Judging lesions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtime.calibration import make_calibration
from operators.assess_lesions import CATEGORIES, category
from validation.statistics.roc import wilson

share = st.floats(0, 1)


UPPER = {"3": 0.02, "4A": 0.10, "4B": 0.50, "4C": 0.95, "5": 1.0}


@given(st.tuples(share, share).map(sorted), share)
def test_a_category_has_an_upper_bound_that_the_data_support(interval, ceiling):
    low, high = interval
    given = category(low, high, ceiling)
    assert given in (*CATEGORIES, None)
    assert given != "2", "there is no probability so low that an AI may say benign"
    if given is None:
        return
    assert high <= UPPER[given]
    if given in ("3", "4A", "4B"):
        assert ceiling <= UPPER[given]
    if given == "5":
        assert low >= 0.95


@given(st.tuples(share, share).map(sorted), st.tuples(share, share).map(sorted))
def test_more_suspicion_never_lowers_the_category(values, ceilings):
    (low, high), (first, second) = values, ceilings
    below, above = category(low, low, first), category(high, high, second)
    assert below is not None
    assert above is not None
    assert CATEGORIES.index(below) <= CATEGORIES.index(above)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 0.02, 0.02), "3"),
        ((0.0, 0.02, 0.03), "4A"),
        ((0.0, 0.03, 0.01), "4A"),
        ((0.05, 0.10, 0.10), "4A"),
        ((0.05, 0.10, 0.11), "4B"),
        ((0.2, 0.4, 0.4), "4B"),
        ((0.4, 0.5, 0.6), "4C"),
        ((0.5, 0.6, 0.99), "4C"),
        ((0.90, 0.94, 0.99), "4C"),
        ((0.94, 0.99, 0.99), None),
        ((0.95, 0.99, 1.0), "5"),
        ((0.01, 0.97, 0.97), None),
        ((0.01, 0.2, 0.2), None),
    ],
)
def test_the_bounds_are_the_atlas(values, expected):
    assert category(*values) == expected


@settings(max_examples=40, deadline=None)
@given(
    st.floats(-8, 8),
    st.floats(-8, 8),
    st.floats(0.001, 0.9),
    st.lists(st.tuples(st.floats(-6, 6), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: len({malignant for _, malignant in rows}) == 2
    ),
)
def test_whatever_the_calibration_the_category_rises_and_is_supported(one, other, prevalence, rows):
    calibration = make_calibration([logit for logit, _ in rows], [malignant for _, malignant in rows])
    given = []
    for logit in sorted((one, other)):
        pair, ceiling = calibration.probability(logit, prevalence), calibration.ceiling(logit, prevalence)
        given.append(category(pair.low, pair.high, ceiling))
        if given[-1] in ("3", "4A", "4B"):
            assert max(pair.high, ceiling) <= UPPER[given[-1]]
    if None not in given:
        assert CATEGORIES.index(given[0]) <= CATEGORIES.index(given[1])


def test_the_shipped_calibration_supports_no_3_at_the_share_it_was_made_with(models):
    """Below the lowest malignant patient are 105: their Wilson upper limit alone is 3.5%."""
    calibration = models.judgement.calibration
    benign_below = int(np.argmax(calibration.malignant))
    upper = wilson(0, benign_below).interval.high
    assert calibration.ceiling(-99.0) == pytest.approx(upper, abs=1e-9)
    assert upper > 0.02
    for prevalence, expected in ((0.33, False), (0.05, True)):
        pair = calibration.probability(-99.0, prevalence)
        given = category(pair.low, pair.high, calibration.ceiling(-99.0, prevalence))
        assert (given == "3") is expected


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
