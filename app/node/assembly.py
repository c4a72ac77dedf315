"""When a study is complete.

Promises: a study closes once no image came for the quiet period, or when somebody asks; a late image opens
its next revision. Durations are measured on the monotonic clock: a jump of the wall clock closes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.logs import log
from app.node.clock import Clock
from app.node.crash import crash_point
from app.node.store.database import Store
from app.node.store.images import ClosedStudy, OpenStudy, close_study, open_studies


@dataclass(frozen=True)
class _Seen:
    """The newest image of a study, and the monotonic time from which its silence counts."""

    last_instance_id: int
    quiet_since: float


class Assembly:
    """Watches the open studies; one in a node."""

    def __init__(self, store: Store, clock: Clock, quiet_period_seconds: float) -> None:
        self._store, self._clock, self._quiet = store, clock, quiet_period_seconds
        self._seen: dict[int, _Seen] = {}

    def close_due(self) -> list[ClosedStudy]:
        """Close every study that is due and answer those that were."""
        found = open_studies(self._store)
        self._seen = {one.study_id: self._observe(one) for one in found}
        closed = []
        for one in found:
            if not self._due(one):
                continue
            crash_point("study-before-close")
            done = close_study(self._store, one, self._clock.now())
            if done is None:
                continue
            crash_point("study-closed")
            log().info("study-closed", study_ref=done.study_ref, revision=done.revision, images=done.images)
            closed.append(done)
        return closed

    def _due(self, found: OpenStudy) -> bool:
        silence = self._clock.monotonic() - self._seen[found.study_id].quiet_since
        return found.close_requested or silence >= self._quiet

    def _observe(self, found: OpenStudy) -> _Seen:
        now = self._clock.monotonic()
        known = self._seen.get(found.study_id)
        if known is not None:
            if known.last_instance_id == found.last_instance_id:
                return known
            return _Seen(found.last_instance_id, now)
        # First sight, after a start perhaps: the wall clock says how long it has been silent, and is
        # believed between "just now" and "as long as it takes".
        age = min(max(self._clock.now() - found.last_received_at, 0.0), self._quiet)
        return _Seen(found.last_instance_id, now - age)
