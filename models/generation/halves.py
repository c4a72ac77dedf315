"""Random halves of patients, and the interval of a figure that they give. No network, no torch.

Promises: patients are never split between a half and the rest; the same stream gives the same halves.

The interval of a figure, or of a difference of two on the same halves, is 1.96 times what it strays over
random halves of the patients: a half drawn without replacement varies about the whole as much as the whole
about the truth (the delete-d jackknife with d half of n: Shao & Wu 1989, doi:10.1214/aos/1176347263).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

HALVES = 200
Places = npt.NDArray[np.intp]


def patient_halves(patients: Sequence[str], random: np.random.Generator, count: int = HALVES) -> list[Places]:
    """Positions of the rows of `count` random halves of the patients, those of one row alone left out.

    patients : (n,) whose row it is
    """
    names, place = np.unique(np.asarray(patients), return_inverse=True)
    size = max(1, len(names) // 2)
    drawn = [random.choice(len(names), size, replace=False) for _ in range(count)]
    halves = [np.flatnonzero(np.isin(place, half)) for half in drawn]
    return [half for half in halves if len(half) > 1]


def half_interval(value: float, by_half: npt.NDArray[np.floating]) -> tuple[float, float]:
    """The interval at 95% about `value` of a figure with the values `by_half` (h,) over halves.

    Give the figure of the whole, or, where the figure depends on how many rows there are, the mean of
    `by_half`: the interval is then that of the figure at half the size.
    """
    half_width = 1.96 * float(np.sqrt(np.square(by_half - value).mean()))
    return value - half_width, value + half_width
