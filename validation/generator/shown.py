"""Figures as a reader sees them."""

from __future__ import annotations

from validation.statistics.interval import Estimate, Interval
from validation.statistics.roc import Auc

ABSENT = "-"


def number(value: float, interval: Interval | None = None, digits: int = 3) -> str:
    """A figure with its interval."""
    shown = f"{value:.{digits}f}"
    return shown if interval is None else f"{shown} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def estimate(figure: Estimate | None, digits: int = 3) -> str:
    """The same of an estimate that may be missing."""
    return ABSENT if figure is None else number(figure.value, figure.interval, digits)


def area(auc: Auc) -> str:
    """An area with its interval on the logit scale."""
    return number(auc.auc, auc.logit)
