"""Means of rows by patient (or image, or whatever owns them)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from validation.statistics.interval import Floats


def group_means(owner: npt.NDArray[np.intp], values: npt.ArrayLike, count: int) -> Floats:
    """Mean (count,) of the values of each owner; NaN of one without a value.

    owner : (n,) place of whose value it is, 0..count-1; values : (n,)
    """
    many = np.bincount(owner, minlength=count)
    total = np.bincount(owner, weights=np.asarray(values, np.float64), minlength=count)
    means: Floats = np.where(many > 0, total / np.maximum(many, 1), np.nan)
    return means
