"""Bootstrap by patient: the interval of any statistic over rows that belong to patients.

Promises: whole patients are resampled; the same seed gives the same interval.

Source: Efron & Tibshirani 1993, chapters 8 and 13 (resampling of groups, percentile interval).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from validation.statistics.interval import LEVEL, Interval, StatisticsError

RESAMPLES = 2000


def bootstrap_by_patient(
    statistic: Callable[[npt.NDArray[np.intp]], float],
    patients: npt.ArrayLike,
    strata: npt.ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 1,
    level: float = LEVEL,
) -> Interval:
    """Percentile interval of any statistic, resampling whole patients.

    Parameters
    ----------
    statistic : indices into the rows, repeated as often as their patient was drawn -> a figure
    patients : (n,) whose row it is
    strata : (n,) constant within a patient; each stratum keeps its number of patients (truth, site)
    seed : the same seed gives the same interval

    Raises
    ------
    StatisticsError
        No rows, strata that split a patient, or a statistic that is no number on a resample.
    """
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    if not owner.size:
        raise StatisticsError("no rows to resample: give at least one patient")
    order, sizes = np.argsort(owner, kind="stable"), np.bincount(owner)
    starts = np.cumsum(sizes) - sizes
    groups = _strata(owner, strata)
    random = np.random.default_rng(seed)
    values = np.empty(resamples)
    for index in range(resamples):
        drawn = np.concatenate([random.choice(group, len(group)) for group in groups])
        ends = np.cumsum(sizes[drawn])
        offsets = np.repeat(starts[drawn] - ends + sizes[drawn], sizes[drawn])
        values[index] = statistic(order[offsets + np.arange(ends[-1])])
    if not np.isfinite(values).all():
        raise StatisticsError("the statistic is undefined on a resample: resample within strata of the truth")
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(float(low), float(high))


def _strata(owner: npt.NDArray[np.intp], strata: npt.ArrayLike | None) -> list[npt.NDArray[np.intp]]:
    count = int(owner.max()) + 1
    if strata is None:
        return [np.arange(count)]
    _, stratum = np.unique(np.asarray(strata), return_inverse=True)
    of_patient = np.empty(count, np.intp)
    of_patient[owner] = stratum
    if (of_patient[owner] != stratum).any():
        raise StatisticsError("a patient lies in two strata: strata must be constant within a patient")
    return [np.flatnonzero(of_patient == index) for index in range(int(stratum.max()) + 1)]
