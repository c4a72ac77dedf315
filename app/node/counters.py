"""Counts of one running gateway since it started: answers to C-STORE by status, associations by result."""

from __future__ import annotations

import threading
from collections import Counter
from enum import StrEnum


class AssociationResult(StrEnum):
    """What became of a request for an association."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # by AE titles or application context, see PS3.8 9.3.4
    LOCAL_LIMIT = "local-limit"  # no place left under gateway.maximum_associations or the one per address


class GatewayCounts:
    """What the gateway counts. Safe to use from several threads."""

    def __init__(self) -> None:
        self._answers: Counter[int] = Counter()
        self._associations: Counter[str] = Counter(dict.fromkeys(AssociationResult, 0))
        self._lock = threading.Lock()

    def count(self, status: int) -> None:
        """Count one answer to C-STORE."""
        with self._lock:
            self._answers[status] += 1

    def count_association(self, result: AssociationResult) -> None:
        """Count one request for an association."""
        with self._lock:
            self._associations[result] += 1

    def by_status(self) -> dict[int, int]:
        """How often each status was answered."""
        with self._lock:
            return dict(self._answers)

    def associations(self) -> dict[str, int]:
        """How often each `AssociationResult` came to be, those that never did included."""
        with self._lock:
            return {str(result): count for result, count in self._associations.items()}
