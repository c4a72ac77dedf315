"""The mean of a figure over random halves, with the interval that these give."""

from __future__ import annotations

from models.generation.halves import half_interval
from validation.statistics.interval import Estimate, Floats, Interval


def over_halves(values: Floats) -> Estimate:
    """Of values (h,), one a half: their mean, and 1.96 times what they stray (delete-d jackknife)."""
    mean = float(values.mean())
    return Estimate(mean, Interval(*half_interval(mean, values)))
