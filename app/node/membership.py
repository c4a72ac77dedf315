"""A worker's place among those that share a database.

Promises: a worker that is silent for `workers.silence_seconds` loses its place soon after, and what it had
is free for the others; one that was only stopped and wakes up learns that it is out, and nothing it did
meanwhile counts. Time is each process's monotonic clock alone: clocks of machines may differ and jump.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from app.logs import log
from app.node.clock import Clock
from app.node.store.database import Store
from app.node.store.workers import beat, register, remove, worker_lines

_LOOKS = 5  # beats and looks within the silence that ends a place


@dataclass(frozen=True)
class _Seen:
    beats: int
    since: float


class Membership:
    """One worker's place. The store acts in its name from the start on."""

    def __init__(self, store: Store, clock: Clock, silence_seconds: float) -> None:
        self._store, self._clock, self._silence = store, clock, silence_seconds
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._seen: dict[int, _Seen] = {}
        self._looked_at = clock.monotonic()
        self.worker_id = store.worker_id = register(store, self._name, clock.now())

    def keep(self, stopping: threading.Event, lost: Callable[[], None], freed: Callable[[], None]) -> None:
        """Keep the place until `stopping`. `lost`: called once it is gone; `freed`: when another's ends."""
        while not stopping.wait(self._silence / _LOOKS):
            try:
                if not beat(self._store, self.worker_id, self._clock.now()):
                    log().error("worker-replaced", remedy="it was silent for too long and starts anew")
                    lost()
                    return
                if self.look():
                    freed()
            except Exception as error:
                # The thread must outlive whatever the server does: without it the place goes unnoticed.
                log().error("store-unreadable", error=type(error).__name__, remedy="check the database")

    def look(self) -> list[int]:
        """Free what workers have that have been silent for too long; answers which those were."""
        now = self._clock.monotonic()
        if now - self._looked_at > self._silence / 2:
            # This process was stopped, or the database away for all: that says nothing of the others.
            self._seen.clear()
        gone = []
        for one in worker_lines(self._store):
            known = self._seen.get(one.worker_id)
            if known is None or known.beats != one.beats:
                self._seen[one.worker_id] = _Seen(one.beats, now)
            elif (
                one.worker_id != self.worker_id
                and now - known.since >= self._silence
                and remove(self._store, one.worker_id, one.beats)
            ):
                log().warning("worker-gone", name=one.name, seconds=round(now - known.since, 1))
                gone.append(one.worker_id)
        self._looked_at = now
        return gone

    def leave(self) -> None:
        """Give the place back, and with it what is still unfinished."""
        try:
            remove(self._store, self.worker_id)
        except SQLAlchemyError as error:  # the others will notice
            log().error("store-unreadable", error=type(error).__name__, remedy="check the database")
