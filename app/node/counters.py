"""Counts of one running gateway: answers to C-STORE by status, since it started."""

from __future__ import annotations

import threading
from collections import Counter


class StoreAnswers:
    """Answers to C-STORE that were sent, by status. Safe to use from several threads."""

    def __init__(self) -> None:
        self._answers: Counter[int] = Counter()
        self._lock = threading.Lock()

    def count(self, status: int) -> None:
        """Count one answer."""
        with self._lock:
            self._answers[status] += 1

    def by_status(self) -> dict[int, int]:
        """How often each status was answered."""
        with self._lock:
            return dict(self._answers)
