"""How a figure is said: median, range, how often it was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def figure(what: str, values: Sequence[float], unit: str, digits: int = 2) -> str:
    """One line with the median, the lowest and highest value, and n."""
    low, high = min(values), max(values)
    return (
        f"{what}: median {statistics.median(values):.{digits}f} {unit} "
        f"({low:.{digits}f} to {high:.{digits}f}, n = {len(values)})"
    )


def ratio(values: Sequence[float], reference: Sequence[float]) -> float:
    """The ratio of the medians."""
    return statistics.median(values) / statistics.median(reference)
