"""Time and chance behind small interfaces, so that tests drive closing and retrying without waiting.

Promises: `now` is wall time for records, `monotonic` is for durations and never jumps. Nothing in the node
asks the machine for either in another way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time and monotonic time."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since the machine started."""
        return time.monotonic()


Chance = Callable[[], float]  # a number in [0, 1)


def system_chance() -> Chance:
    """Chance seeded by the machine."""
    return random.SystemRandom().random


def moment(seconds: float) -> datetime:
    """Wall time in seconds since 1970 as an aware date in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
