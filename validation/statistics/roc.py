"""Receiver operating characteristic: area, its variance, tests of two areas, operating points.

Promises: the empirical area (ties count one half) with DeLong's variance and an interval on the logit
scale that stays inside 0..1. Refuses scores that are not numbers and sets with fewer than two of a class.

Sources: DeLong, DeLong & Clarke-Pearson, Biometrics 1988;44:837-845 (variance, paired test); Sun & Xu,
IEEE Signal Processing Letters 2014;21:1389-1393 (mid-ranks); Clopper & Pearson, Biometrika 1934;26:404-413
(the bound at an area of 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from validation.statistics.interval import LEVEL, Flags, Floats, Interval, StatisticsError
from validation.statistics.proportions import Proportion, wilson

_SMALLEST_CLASS = 2  # a variance needs two


@dataclass(frozen=True)
class Auc:
    """Empirical area under the ROC curve, 0..1, with its standard error and two intervals.

    `wald` is area +- z SE, cut to 0..1; `logit` is the same on the logit scale, to be preferred near 1.
    """

    auc: float
    standard_error: float
    wald: Interval
    logit: Interval
    positives: int
    negatives: int


@dataclass(frozen=True)
class PairedTest:
    """Two markers on the same patients: difference of areas (first - second), its interval, z and p."""

    difference: float
    standard_error: float
    interval: Interval
    z: float
    p: float


@dataclass(frozen=True)
class NonInferiority:
    """Whether the first marker is not worse than the second by `margin` (above 0) or more.

    `shown`: the lower bound of the two-sided interval of `paired` lies above -margin. `p` is one-sided.
    """

    paired: PairedTest
    margin: float
    shown: bool
    p: float


@dataclass(frozen=True)
class OperatingPoint:
    """Sensitivity and specificity at a threshold fixed beforehand; a score that reaches it is positive."""

    threshold: float
    sensitivity: Proportion
    specificity: Proportion


@dataclass(frozen=True)
class RocCurve:
    """Points of the empirical curve from (0, 0) to (1, 1): rates and the threshold that gives them."""

    false_positive_rate: Floats
    true_positive_rate: Floats
    thresholds: Floats


def auc_with_interval(scores: npt.ArrayLike, positive: npt.ArrayLike, level: float = LEVEL) -> Auc:
    """Area under the empirical ROC curve with DeLong's variance.

    Parameters
    ----------
    scores : (n,) any real scale, higher is more suspicious; -inf is allowed and ranks lowest
    positive : bool (n,)
    level : coverage of the intervals

    Raises
    ------
    StatisticsError
        Fewer than two positives or negatives, a score that is no number, or lengths that differ.

    Notes
    -----
    At an area of 1 DeLong's variance is 0. The smaller class gives k disjoint pairs, all in order with
    probability area^k, so (alpha/2)^(1/k) is an exact lower bound (Clopper & Pearson for k of k).
    """
    values, labels = _checked(scores, positive)
    areas, covariance = _delong(values[None], labels)
    area, error = float(areas[0]), float(np.sqrt(max(covariance[0, 0], 0.0)))
    z = float(stats.norm.ppf(0.5 + level / 2))
    wald = Interval(max(0.0, area - z * error), min(1.0, area + z * error))
    count = int(labels.sum())
    smaller = min(count, len(labels) - count)
    return Auc(area, error, wald, _logit_interval(area, error, z, smaller), count, len(labels) - count)


def paired_delong(
    first: npt.ArrayLike, second: npt.ArrayLike, positive: npt.ArrayLike, level: float = LEVEL
) -> PairedTest:
    """DeLong's two-sided test of two markers measured on the same patients.

    Raises
    ------
    StatisticsError
        As for `auc_with_interval`.

    Notes
    -----
    Where both rank all pairs alike the standard error is 0: z is then 0 and p is 1.
    """
    one, labels = _checked(first, positive)
    two, _ = _checked(second, positive)
    areas, covariance = _delong(np.stack([one, two]), labels)
    difference = float(areas[0] - areas[1])
    error = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)))
    if error > 0:
        z = difference / error
    else:
        z = 0.0 if difference == 0 else float(np.copysign(np.inf, difference))
    margin = float(stats.norm.ppf(0.5 + level / 2)) * error
    interval = Interval(difference - margin, difference + margin)
    return PairedTest(difference, error, interval, z, float(2 * stats.norm.sf(abs(z))))


def non_inferiority(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    positive: npt.ArrayLike,
    margin: float,
    level: float = LEVEL,
) -> NonInferiority:
    """Non-inferiority of the first marker by the paired interval of DeLong; a margin stated beforehand.

    Raises
    ------
    StatisticsError
        As for `auc_with_interval`, or the margin is not above 0.

    Notes
    -----
    The null is a difference of -margin or less: z = (difference + margin) / SE, so `shown` and
    p < (1 - level) / 2 are the same statement.
    """
    if not margin > 0:
        raise StatisticsError(f"a margin of {margin} leaves nothing to show: give a number above 0")
    paired = paired_delong(first, second, positive, level)
    distance = paired.difference + margin
    z = (
        distance / paired.standard_error
        if paired.standard_error > 0
        else float(np.copysign(np.inf, distance))
    )
    return NonInferiority(paired, margin, paired.interval.low > -margin, float(stats.norm.sf(z)))


def operating_point(
    scores: npt.ArrayLike, positive: npt.ArrayLike, threshold: float, level: float = LEVEL
) -> OperatingPoint:
    """Sensitivity and specificity at a frozen threshold; a score >= threshold is a positive answer.

    Wilson's interval holds only for a threshold that was not chosen from these scores.

    Raises
    ------
    StatisticsError
        As for `auc_with_interval`.
    """
    values, labels = _checked(scores, positive)
    called = values >= threshold
    return OperatingPoint(
        threshold,
        wilson(int((called & labels).sum()), int(labels.sum()), level),
        wilson(int((~called & ~labels).sum()), int((~labels).sum()), level),
    )


def roc_curve(scores: npt.ArrayLike, positive: npt.ArrayLike) -> RocCurve:
    """The empirical curve: one point for each distinct score, and the origin.

    Raises
    ------
    StatisticsError
        As for `auc_with_interval`.
    """
    values, labels = _checked(scores, positive)
    thresholds, place = np.unique(-values, return_inverse=True)
    true = np.cumsum(np.bincount(place, weights=labels))
    false = np.cumsum(np.bincount(place, weights=~labels))
    return RocCurve(
        np.concatenate([[0.0], false / false[-1]]),
        np.concatenate([[0.0], true / true[-1]]),
        np.concatenate([[np.inf], -thresholds]),
    )


def empirical_auc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """The area alone, 0..1: what a bootstrap calls.

    Raises
    ------
    StatisticsError
        A class is missing.
    """
    values, labels = np.asarray(scores, np.float64), np.asarray(positive, bool)
    count = int(labels.sum())
    if count in (0, len(labels)):
        raise StatisticsError("an ROC curve needs both classes")
    ranks = stats.rankdata(values)
    rest = len(labels) - count
    return float((ranks[labels].sum() - count * (count + 1) / 2) / (count * rest))


def _delong(scores: Floats, labels: Flags) -> tuple[Floats, Floats]:
    """Areas (k,) and their covariance (k, k) by mid-ranks (Sun & Xu 2014, equations 5 to 8)."""
    positives, negatives = scores[:, labels], scores[:, ~labels]
    m, n = positives.shape[1], negatives.shape[1]
    pooled = stats.rankdata(np.concatenate([positives, negatives], axis=1), axis=1)
    v10 = (pooled[:, :m] - stats.rankdata(positives, axis=1)) / n
    v01 = 1 - (pooled[:, m:] - stats.rankdata(negatives, axis=1)) / m
    covariance = np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    return v10.mean(axis=1), covariance


def _logit_interval(area: float, error: float, z: float, smaller: int) -> Interval:
    if area in (0.0, 1.0):
        bound = float(stats.norm.sf(z) ** (1 / smaller))
        return Interval(bound, 1.0) if area == 1.0 else Interval(0.0, 1 - bound)
    centre, margin = np.log(area / (1 - area)), z * error / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-(centre + np.array([-margin, margin]))))
    return Interval(float(low), float(high))


def _checked(scores: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[Floats, Flags]:
    values, labels = np.asarray(scores, np.float64), np.asarray(positive)
    if values.ndim != 1 or values.shape != labels.shape:
        raise StatisticsError(f"{values.shape} scores and {labels.shape} labels: give one of each a patient")
    if np.isnan(values).any():
        raise StatisticsError("a score is not a number: give a patient without a finding the lowest score")
    labels = labels.astype(bool)
    count = int(labels.sum())
    if min(count, len(labels) - count) < _SMALLEST_CLASS:
        raise StatisticsError(
            f"{count} positives and {len(labels) - count} negatives: a variance needs two of each"
        )
    return values, labels
