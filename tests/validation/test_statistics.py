"""The statistics against published programs, scikit-learn, and the properties they must have."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from validation.statistics.bootstrap import bootstrap_by_patient
from validation.statistics.calibration import brier_score, calibration_line, reliability_bins
from validation.statistics.groups import group_means
from validation.statistics.interval import Interval, StatisticsError
from validation.statistics.proportions import share_by_patient, wilson
from validation.statistics.roc import (
    auc_with_interval,
    empirical_auc,
    operating_point,
    paired_delong,
    roc_curve,
)

MARKERS = ("s100b", "ndka", "wfns")


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> dict:
    return json.loads((shared_data / "reader-study" / "expected_single.json").read_text())


@pytest.fixture(scope="module")
def asah(shared_data: Path) -> dict[str, np.ndarray]:
    with (shared_data / "reader-study" / "datasets" / "asah.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {key: np.array([float(row[key]) for row in rows]) for key in ("outcome", *MARKERS)}


@pytest.mark.parametrize("marker", MARKERS)
def test_auc_equals_proc(reference, asah, marker):
    expected = reference["asah_pROC"]["auc"][marker]
    auc = auc_with_interval(asah[marker], asah["outcome"] == 1)
    assert (auc.positives, auc.negatives) == (41, 72)
    assert auc.auc == pytest.approx(expected["auc"], abs=1e-12)
    assert auc.standard_error**2 == pytest.approx(expected["var_delong"], abs=1e-12)
    assert (auc.wald.low, auc.wald.high) == pytest.approx(expected["ci_delong"], abs=1e-9)
    assert (auc.logit.low, auc.logit.high) == pytest.approx(expected["logit_ci_delong"], abs=1e-9)


@pytest.mark.parametrize("pair", [("s100b", "wfns"), ("s100b", "ndka"), ("wfns", "ndka")])
def test_paired_delong_equals_proc(reference, asah, pair):
    expected = reference["asah_pROC"]["paired_delong"]["_vs_".join(pair)]
    test = paired_delong(asah[pair[0]], asah[pair[1]], asah["outcome"] == 1)
    assert test.difference == pytest.approx(expected["diff"], abs=1e-12)
    assert test.z == pytest.approx(expected["z"], abs=1e-9)
    assert test.p == pytest.approx(expected["p"], abs=1e-9)


def test_wilson_equals_the_reference(reference):
    for case in reference["asah_pROC"]["binomial"]:
        given_ = wilson(case["x"], case["n"])
        assert (given_.interval.low, given_.interval.high) == pytest.approx(case["wilson"], abs=1e-9)


def test_operating_point_at_the_published_youden_threshold(reference, asah):
    for marker in MARKERS:
        expected = reference["asah_pROC"]["youden"][marker]
        point = operating_point(asah[marker], asah["outcome"] == 1, expected["threshold"])
        assert point.sensitivity.value == pytest.approx(expected["sensitivity"], abs=1e-12)
        assert point.specificity.value == pytest.approx(expected["specificity"], abs=1e-12)


def test_calibration_equals_rms(reference, asah):
    expected = reference["calibration"]
    probability, positive = expit(-1.5 + 3 * asah["s100b"]), asah["outcome"] == 1
    line = calibration_line(probability, positive)
    assert line.slope == pytest.approx(expected["slope"], abs=1e-6)
    assert line.intercept == pytest.approx(expected["intercept_with_free_slope"], abs=1e-6)
    assert line.in_the_large == pytest.approx(expected["calibration_in_the_large"], abs=1e-6)
    assert (line.slope_interval.low, line.slope_interval.high) == pytest.approx(
        expected["slope_wald_ci"], abs=1e-5
    )
    assert (line.in_the_large_interval.low, line.in_the_large_interval.high) == pytest.approx(
        expected["citl_wald_ci"], abs=1e-5
    )
    assert brier_score(probability, positive) == pytest.approx(expected["brier"], abs=1e-9)


labelled = st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=6, max_size=60).filter(
    lambda rows: 2 <= sum(label for _, label in rows) <= len(rows) - 2
)


def split(rows):
    scores, labels = zip(*rows, strict=True)
    return np.array(scores, float), np.array(labels, bool)


@given(labelled)
def test_auc_equals_scikit_learn_with_ties(rows):
    scores, labels = split(rows)
    expected = roc_auc_score(labels, scores)
    assert auc_with_interval(scores, labels).auc == pytest.approx(expected, abs=1e-12)
    assert empirical_auc(scores, labels) == pytest.approx(expected, abs=1e-12)
    curve = roc_curve(scores, labels)
    assert np.trapezoid(curve.true_positive_rate, curve.false_positive_rate) == pytest.approx(expected)


@given(labelled)
def test_auc_and_interval_depend_on_ranks_only(rows):
    scores, labels = split(rows)
    one, two = auc_with_interval(scores, labels), auc_with_interval(np.exp(scores) * 3 - 7, labels)
    assert one == two
    mirrored = auc_with_interval(-scores, labels)
    assert mirrored.auc == pytest.approx(1 - one.auc, abs=1e-12)
    assert mirrored.standard_error == pytest.approx(one.standard_error, abs=1e-12)
    assert 0 <= one.logit.low <= one.auc <= one.logit.high <= 1
    assert 0 <= one.wald.low <= one.auc <= one.wald.high <= 1


@given(labelled)
def test_a_marker_does_not_differ_from_itself(rows):
    scores, labels = split(rows)
    test = paired_delong(scores, scores * 2, labels)
    assert (test.difference, test.z, test.p) == (0, 0, 1)


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilson_holds_the_proportion_and_stays_inside(count, total):
    count = min(count, total)
    share = wilson(count, total)
    slack = 1e-12
    assert -slack <= share.interval.low <= share.value + slack
    assert share.value - slack <= share.interval.high <= 1 + slack
    wider = wilson(count, total, 0.99).interval
    assert wider.low <= share.interval.low + slack
    assert wider.high >= share.interval.high - slack


def test_a_perfect_marker_still_has_an_interval():
    auc = auc_with_interval([1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 1, 1, 1])
    assert (auc.auc, auc.standard_error, auc.logit.high) == (1, 0, 1)
    assert auc.logit.low == pytest.approx(0.025 ** (1 / 3))
    reverse = auc_with_interval([-1, -2, -3, -4, -5, -6, -7], [0, 0, 0, 0, 1, 1, 1])
    assert reverse.logit == Interval(0.0, pytest.approx(1 - 0.025 ** (1 / 3)))


def test_a_patient_without_a_score_ranks_lowest():
    auc = auc_with_interval([-np.inf, 0.1, -np.inf, 0.2], [True, True, False, False])
    assert auc.auc == pytest.approx((0.5 + 0 + 1 + 0) / 4)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, np.nan, 2.0, 3.0], [0, 0, 1, 1], "not a number"),
        ([1.0, 2.0, 3.0], [0, 0, 1], "two of each"),
        ([1.0, 2.0], [0, 0, 1], "one of each"),
    ],
)
def test_what_gives_no_area_is_refused(scores, labels, message):
    with pytest.raises(StatisticsError, match=message):
        auc_with_interval(scores, labels)


def made_rows(seed, patients=120):
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), random.integers(1, 4, patients))
    truth = (np.arange(patients) % 3 == 0)[owner]
    scores = random.normal(size=patients)[owner] + 0.2 * random.normal(size=len(owner)) + truth
    return owner, truth, scores


def test_bootstrap_repeats_with_its_seed_and_covers_the_delong_interval():
    owner, truth, scores = made_rows(0)

    def area(rows):
        return empirical_auc(scores[rows], truth[rows])

    one = bootstrap_by_patient(area, owner, truth, resamples=500, seed=3)
    assert one == bootstrap_by_patient(area, owner, truth, resamples=500, seed=3)
    assert one != bootstrap_by_patient(area, owner, truth, resamples=500, seed=4)
    assert one.low < empirical_auc(scores, truth) < one.high


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_bootstrap_takes_whole_patients_and_keeps_strata(seed):
    owner, truth, _ = made_rows(seed, 15)
    sizes = np.bincount(owner)
    positives = len(np.unique(owner[truth]))

    def check(rows):
        drawn = np.bincount(owner[rows], minlength=15)
        assert (drawn % sizes == 0).all()
        assert (drawn // sizes)[np.unique(owner[truth])].sum() == positives
        return float(len(rows))

    bootstrap_by_patient(check, owner, truth, resamples=20, seed=seed)


def test_bootstrap_of_repeated_rows_is_as_wide_as_of_patients():
    values = np.random.default_rng(1).normal(size=60)
    once = bootstrap_by_patient(lambda rows: values[rows].mean(), np.arange(60), seed=2)
    owner = np.repeat(np.arange(60), 5)
    often = bootstrap_by_patient(lambda rows: values[owner[rows]].mean(), owner, seed=2)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_bootstrap_refuses_what_it_cannot_resample():
    with pytest.raises(StatisticsError, match="two strata"):
        bootstrap_by_patient(lambda rows: 0.0, [1, 1, 2], [0, 1, 0])
    with pytest.raises(StatisticsError, match="no rows"):
        bootstrap_by_patient(lambda rows: 0.0, [])
    with pytest.raises(StatisticsError, match="undefined"):
        bootstrap_by_patient(lambda rows: float("nan"), [1, 2], resamples=3)


def test_true_probabilities_are_found_calibrated():
    random = np.random.default_rng(5)
    probability = random.uniform(0.02, 0.98, 20000)
    positive = random.random(20000) < probability
    line = calibration_line(probability, positive)
    assert line.slope_interval.low < 1 < line.slope_interval.high
    assert line.in_the_large == pytest.approx(0, abs=0.05)
    bins = reliability_bins(probability, positive)
    assert [item.count for item in bins] == [2000] * 10
    assert all(abs(item.stated - item.observed) < 0.05 for item in bins)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.booleans()), min_size=1))
def test_bins_hold_every_patient_once(rows):
    probability, positive = split(rows)
    bins = reliability_bins(probability, positive)
    assert sum(item.count for item in bins) == len(rows)
    assert sum(item.count * item.observed for item in bins) == pytest.approx(positive.sum())
    assert 0 <= brier_score(probability, positive) <= 1


def test_a_line_through_separate_classes_does_not_exist():
    line = calibration_line([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    assert line.slope is None
    assert line.in_the_large == pytest.approx(0, abs=1e-9)
    with pytest.raises(StatisticsError, match="both classes"):
        calibration_line([0.1, 0.2], [1, 1])
    with pytest.raises(StatisticsError, match="outside"):
        brier_score([1.2], [1])


def test_a_share_counts_patients_and_not_pictures():
    single = share_by_patient([True] * 6 + [False] * 34, range(40))
    assert single == wilson(6, 40)
    owners = np.repeat(np.arange(40), 5)
    hits = np.repeat([True] * 6 + [False] * 34, 5)
    many = share_by_patient(hits, owners)
    assert (many.count, many.total, many.value) == (30, 200, 0.15)
    width = many.interval.high - many.interval.low
    assert width > 1.8 * (wilson(30, 200).interval.high - wilson(30, 200).interval.low)
    everything = share_by_patient([True] * 200, owners)
    assert everything.interval == wilson(40, 40).interval
    assert share_by_patient([False] * 200, owners).interval == wilson(0, 40).interval
    with pytest.raises(StatisticsError):
        share_by_patient([], [])


def test_means_by_owner():
    assert group_means(np.array([0, 2, 2]), [1.0, 2.0, 4.0], 3) == pytest.approx([1, np.nan, 3], nan_ok=True)
