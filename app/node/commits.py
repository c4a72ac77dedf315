"""Instances that wait at the same time are committed together.

A commit is an fsync; associations that wait for one another's would wait for as many as there are. Whoever
comes while a transaction is under way queues, and the next transaction takes all that queue. Promises: an
outcome is given only after the commit; trouble with one instance costs no other. Where the database itself
does not answer (locked, disk full), a batch fails as one: each instance for itself would wait as long again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.node.store.database import Store
from app.node.store.images import Outcome, ReceivedInstance, keep_instances


@dataclass
class _Waiting:
    received: ReceivedInstance
    outcome: Outcome | None = None
    error: Exception | None = None


class Commits:
    """Keeps instances for all associations of the process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: list[_Waiting] = []
        self._queueing, self._committing = threading.Lock(), threading.Lock()

    def keep(self, received: ReceivedInstance) -> Outcome:
        """Wait until the instance is committed, by this thread or by another.

        Raises
        ------
        SQLAlchemyError
            It could not be committed.
        """
        mine = _Waiting(received)
        with self._queueing:
            self._queue.append(mine)
        with self._committing:
            with self._queueing:
                batch, self._queue = self._queue, []
            self._commit(batch)  # empty where the thread before took this one along
        if mine.error is not None:
            raise mine.error
        assert mine.outcome is not None
        return mine.outcome

    def _commit(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            outcomes = keep_instances(self._store, [one.received for one in batch])
        except (OperationalError, PoolTimeout) as error:
            for one in batch:
                one.error = error
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for one in batch:  # each alone: the trouble may be with one of them
                self._commit([one])
        else:
            for one, outcome in zip(batch, outcomes, strict=True):
                one.outcome = outcome
