"""Waiting for an event with a bound: the tests' only clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Return as soon as `happened()` is true; fail the test with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s for {what}")
        pause.wait(0.05)
