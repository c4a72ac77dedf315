"""Counts of the running gateway: answers to C-STORE by status, since it started."""

from __future__ import annotations

import threading
from collections import Counter

_answers: Counter[int] = Counter()
_lock = threading.Lock()


def count_store_answer(status: int) -> None:
    """Count one answer."""
    with _lock:
        _answers[status] += 1


def store_answers() -> dict[int, int]:
    """How often each status was answered."""
    with _lock:
        return dict(_answers)
