"""Do probabilities mean what they say: Brier score, calibration line, reliability bins.

Promises: standard definitions, each with its interval; bins hold equal numbers of patients, so none is
drawn from a handful. Refuses values outside 0..1 and sets with one class.

Sources: Brier, Monthly Weather Review 1950;78:1-3; Cox, Biometrika 1958;45:562-565 (slope, intercept);
Van Calster et al., BMC Medicine 2019;17:230 (calibration in the large); Wilson, JASA 1927;22:209-212.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import expit, logit

from validation.statistics.interval import LEVEL, Flags, Floats, Interval, StatisticsError
from validation.statistics.proportions import wilson

_EDGE = 1e-6  # the logit of 0 and 1 is infinite: probabilities are held this far inside
_STEPS = 100


@dataclass(frozen=True)
class CalibrationLine:
    """logit P(malignant) = intercept + slope * logit(probability), with Wald intervals.

    `in_the_large` is the intercept at slope 1. Perfect: slope 1, both intercepts 0. Values are None where
    the classes separate perfectly: the line does not exist then.
    """

    slope: float | None
    slope_interval: Interval | None
    intercept: float | None
    in_the_large: float
    in_the_large_interval: Interval


@dataclass(frozen=True)
class ReliabilityBin:
    """Patients of similar probability: mean probability stated, share malignant, Wilson's interval."""

    stated: float
    observed: float
    interval: Interval
    count: int


def brier_score(probability: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Mean squared distance of probability and truth, 0..1; lower is better.

    Raises
    ------
    StatisticsError
        A probability outside 0..1, lengths that differ, or no values.
    """
    values, labels = _checked(probability, positive)
    return float(np.mean((values - labels) ** 2))


def calibration_line(
    probability: npt.ArrayLike, positive: npt.ArrayLike, level: float = LEVEL
) -> CalibrationLine:
    """Calibration slope and intercepts by maximum likelihood.

    Raises
    ------
    StatisticsError
        A probability outside 0..1, lengths that differ, or one class only.
    """
    values, labels = _checked(probability, positive)
    if labels.all() or not labels.any():
        raise StatisticsError("a calibration line needs both classes")
    x = logit(np.clip(values, _EDGE, 1 - _EDGE))
    z = float(stats.norm.ppf(0.5 + level / 2))
    one = np.ones_like(x)
    large, large_error = _logistic(one[:, None], labels, offset=x)
    interval = Interval(float(large[0] - z * large_error[0]), float(large[0] + z * large_error[0]))
    separate = x[labels].min() >= x[~labels].max() or x[labels].max() <= x[~labels].min()
    if separate or np.ptp(x) == 0:
        return CalibrationLine(None, None, None, float(large[0]), interval)
    line, error = _logistic(np.stack([one, x], axis=1), labels, offset=np.zeros_like(x))
    slope = Interval(float(line[1] - z * error[1]), float(line[1] + z * error[1]))
    return CalibrationLine(float(line[1]), slope, float(line[0]), float(large[0]), interval)


def reliability_bins(
    probability: npt.ArrayLike, positive: npt.ArrayLike, count: int = 10, level: float = LEVEL
) -> tuple[ReliabilityBin, ...]:
    """At most `count` bins of equal numbers of patients, lowest first; equal probabilities share a bin.

    Raises
    ------
    StatisticsError
        A probability outside 0..1, lengths that differ, or no values.
    """
    values, labels = _checked(probability, positive)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins = []
    for index in np.unique(place):
        inside = place == index
        share = wilson(int(labels[inside].sum()), int(inside.sum()), level)
        bins.append(ReliabilityBin(float(values[inside].mean()), share.value, share.interval, share.total))
    return tuple(bins)


def _logistic(design: Floats, labels: Flags, offset: Floats) -> tuple[Floats, Floats]:
    """Coefficients and standard errors of an unpenalised logistic regression (Newton with halving)."""
    beta = np.zeros(design.shape[1])

    def likelihood(at: Floats) -> float:
        line = offset + design @ at
        return float(np.sum(labels * line - np.logaddexp(0, line)))

    for _ in range(_STEPS):
        fitted = expit(offset + design @ beta)
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        step = np.linalg.solve(information, design.T @ (labels - fitted))
        while likelihood(beta + step) < likelihood(beta) - 1e-12 and np.abs(step).max() > 1e-12:
            step = step / 2
        beta = beta + step
        if np.abs(step).max() < 1e-12:
            break
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def _checked(probability: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[Floats, Flags]:
    values, labels = np.asarray(probability, np.float64), np.asarray(positive)
    if values.ndim != 1 or values.shape != labels.shape or not values.size:
        raise StatisticsError(f"{values.shape} probabilities and {labels.shape} labels: give one of each")
    if not ((values >= 0) & (values <= 1)).all():
        raise StatisticsError("a probability lies outside 0..1")
    return values, labels.astype(bool)
