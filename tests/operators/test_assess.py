"""Judging lesions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.settings import ReportSettings
from models.runtime.calibration import make_calibration
from operators.assess_lesions import CATEGORIES, category, deciding_ceiling
from operators.compose_report import compose_report
from operators.findings import Assessment
from operators.report import wording
from operators.report.capture import lay_out_summary
from operators.report.codes import category_value
from validation.statistics.proportions import wilson

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
    for name, value, ceiling in ((below, low, first), (above, high, second)):
        assert (name is None) == (ceiling > UPPER[one_higher(value)]), (
            "none where the data allow for far more"
        )
    if below is not None and above is not None:
        assert CATEGORIES.index(below) <= CATEGORIES.index(above)


def one_higher(value: float) -> str:
    """The category above the one that a probability alone has; of 4C and 5 no ceiling takes away."""
    alone = next(name for name in CATEGORIES if value <= UPPER[name])
    return "5" if alone in ("4B", "4C", "5") else CATEGORIES[CATEGORIES.index(alone) + 1]


@given(st.tuples(share, share).map(sorted), share)
def test_what_lifts_a_category_is_carried_and_said(interval, ceiling):
    low, high = interval
    given, alone = category(low, high, ceiling), category(low, high, 0.0)
    decides = deciding_ceiling(low, high, ceiling)
    assert (decides is not None) == (given != alone)
    assessment = Assessment(high, low, high, given, False, False, decides)
    said, code = wording.category_text(assessment), category_value(assessment)
    if given is None:
        assert said == f"none: {wording.TOO_WIDE if alone is None else wording.TOO_FEW}"
        assert code.meaning == "No category" + said.removeprefix("none")
        return
    assert code.value == f"CAT{given}"
    if decides is None:
        assert said == given
        return
    assert CATEGORIES.index(given) == CATEGORIES.index(alone) + 1, "never by more than one"
    shown = int(said.removeprefix(f"{given}: the data allow for up to ").removesuffix("%"))
    assert ceiling * 100 <= shown < ceiling * 100 + 1


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
        ((0.0, 0.01, 0.11), None),
        ((0.0, 0.10, 0.51), None),
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


def test_every_part_of_a_result_says_what_lifts_a_category(analysed, context):
    result = analysed("benign, two views")
    (lesion,) = result.lesions
    cases = (("4A", "4A: the data allow for up to 4%"), (None, f"none: {wording.TOO_FEW}"))
    for name, said in cases:
        assessment = replace(lesion.assessment, category=name, deciding_ceiling=0.036)
        changed = replace(result, lesions=(replace(lesion, assessment=assessment),))
        report = compose_report(changed, context)
        document = report.objects[0].dataset.to_json()
        assert said in document
        assert ("CATFEW" in document) == (name is None)
        assert said in report.page
        assert report.summary["lesions"][0]["category_text"] == said
        assert report.summary["lesions"][0]["deciding_ceiling"] == 0.036
        assert said in " ".join(box.words for box in lay_out_summary(changed, context).boxes)


@pytest.mark.parametrize(
    ("prevalence", "expected", "lifted"),
    [
        (0.33, {"4A": 257, "4B": 262, "4C": 267, "5": 42, None: 19}, {"4A": 55, "4B": 34, "4C": 58}),
        (0.05, {"3": 285, "4A": 247, "4B": 171, "4C": 127, None: 17}, {"4A": 170, "4B": 48, "4C": 13}),
    ],
)
def test_the_spread_of_categories_is_that_of_the_documentation(models, prevalence, expected, lifted):
    """docs/validation.md, Category: the calibration patients themselves."""
    calibration = models.judgement.calibration
    spread: Counter[str | None] = Counter()
    decided: Counter[str | None] = Counter()
    for logit in calibration.logits:
        pair, ceiling = calibration.probability(logit, prevalence), calibration.ceiling(logit, prevalence)
        spread[name := category(pair.low, pair.high, ceiling)] += 1
        decided[name] += deciding_ceiling(pair.low, pair.high, ceiling) is not None
    assert spread == expected
    assert +decided == lifted


def test_a_prevalence_below_1_percent_is_refused():
    assert ReportSettings(malignant_prevalence_percent=1).malignant_prevalence_percent == 1
    with pytest.raises(ValidationError):
        ReportSettings(malignant_prevalence_percent=0.99)


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
