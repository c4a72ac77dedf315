"""Proportions with intervals that stay inside 0..1, of patients or of their pictures.

Sources: Wilson, JASA 1927;22:209-212; resampling of patients as in `bootstrap.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from validation.statistics.bootstrap import RESAMPLES, bootstrap_by_patient
from validation.statistics.interval import LEVEL, Interval, StatisticsError


@dataclass(frozen=True)
class Proportion:
    """`count` of `total` with an interval; `value` in 0..1."""

    count: int
    total: int
    value: float
    interval: Interval


def wilson(count: int, total: int, level: float = LEVEL) -> Proportion:
    """A proportion with Wilson's score interval.

    Raises
    ------
    StatisticsError
        `total` is 0, or `count` lies outside 0..total.
    """
    if not 0 <= count <= total or total == 0:
        raise StatisticsError(f"{count} of {total} is no proportion: at least one patient is needed")
    given = stats.binomtest(int(count), int(total)).proportion_ci(level, method="wilson")
    return Proportion(int(count), int(total), count / total, Interval(float(given.low), float(given.high)))


def share_by_patient(
    hits: npt.ArrayLike, patients: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 1
) -> Proportion:
    """A share of pictures with whole patients resampled; Wilson's interval where all have one picture.

    Of all or none a resampled share has no width: then Wilson's interval of as many patients.

    hits : bool (n,), a picture each; patients : (n,) whose it is

    Raises
    ------
    StatisticsError
        There is no picture.
    """
    counted, owners = np.asarray(hits, bool), np.asarray(patients)
    count, total, people = int(counted.sum()), len(counted), len(np.unique(owners))
    if people == total:
        return wilson(count, total)
    if count in (0, total):
        return Proportion(count, total, count / total, wilson(people if count else 0, people).interval)
    interval = bootstrap_by_patient(
        lambda chosen: float(counted[chosen].mean()), owners, resamples=resamples, seed=seed
    )
    return Proportion(count, total, count / total, interval)
