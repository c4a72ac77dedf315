"""What every figure is made of: an interval, an estimate, and the error that says it cannot be computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LEVEL = 0.95  # of every interval where none is given


class StatisticsError(ValueError):
    """A figure cannot be computed from these values. The message says what is missing."""

    code = "figure-undefined"
    exit_status = 10


@dataclass(frozen=True)
class Interval:
    """A confidence interval, both ends inside."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval."""

    value: float
    interval: Interval
