"""Workers that share a database: which there are, and which job each has taken.

Promises: a job or a delivery is one worker's at a time; what a worker had is free again in the same
transaction that takes its row away, and from then on nothing it does for them counts, nor does it get more.
Refuses to judge by a clock: a worker is gone when another one that watches it says so, and its beats have not
grown since.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from app.node.store.database import Store
from app.node.store.schema import DeliveryState, JobState, delivery, job, worker
from app.node.store.versions import supersede

_UNFINISHED = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class WorkerLine:
    """A worker that has not been found gone. `seen_at`: seconds since 1970, by its own clock."""

    worker_id: int
    name: str
    beats: int
    seen_at: float


def register(store: Store, name: str, now: float) -> int:
    """Enter a worker; its id is never another's again."""
    with store.write() as connection:
        created = connection.execute(insert(worker).values(name=name, seen_at=now))
        return int(created.inserted_primary_key[0])  # type: ignore[index]


def beat(store: Store, worker_id: int, now: float) -> bool:
    """Say that a worker lives; False where it was found gone before."""
    with store.write() as connection:
        changed = connection.execute(
            update(worker).where(worker.c.id == worker_id).values(beats=worker.c.beats + 1, seen_at=now)
        )
        return changed.rowcount == 1


def worker_lines(store: Store) -> list[WorkerLine]:
    """All workers that have not been found gone."""
    with store.read() as connection:
        rows = connection.execute(select(worker).order_by(worker.c.id)).all()
    return [WorkerLine(row.id, row.name, row.beats, row.seen_at) for row in rows]


def remove(store: Store, worker_id: int, beats: int | None = None) -> bool:
    """Take a worker's row away and free what it had; False where it is away, or has beaten since `beats`."""
    with store.write() as connection:
        query = delete(worker).where(worker.c.id == worker_id)
        if beats is not None:
            query = query.where(worker.c.beats == beats)
        if connection.execute(query).rowcount == 0:
            return False
        _free(connection, worker_id)
        return True


def _free(connection: Connection, worker_id: int) -> None:
    connection.execute(
        update(job).where(job.c.worker_id == worker_id, job.c.state.in_(_UNFINISHED)).values(worker_id=None)
    )
    sending = (delivery.c.worker_id == worker_id) & (delivery.c.state == DeliveryState.SENDING)
    connection.execute(update(delivery).where(sending).values(state=DeliveryState.QUEUED, worker_id=None))
    supersede(connection)


def has_place(store: Store, connection: Connection) -> bool:
    """Whether the store's worker may take anything: until it is found gone, and always where it is alone.

    Asked within the transaction that takes: what a worker without a row held nobody would ever free.
    """
    if store.worker_id is None:
        return True
    query = select(worker.c.id).where(worker.c.id == store.worker_id)
    return connection.execute(query).first() is not None


def held_jobs(store: Store) -> list[int]:
    """Ids of the unfinished jobs that the store's worker has taken, oldest first."""
    query = (
        select(job.c.id)
        .where(job.c.worker_id == store.worker_id, job.c.state.in_(_UNFINISHED))
        .order_by(job.c.id)
    )
    with store.read() as connection:
        return list(connection.execute(query).scalars())


def claim_job(store: Store) -> int | None:
    """Take the oldest unfinished job that nobody has and whose study nobody works on; None without one."""
    other = job.alias("other")
    busy = (
        select(other.c.id)
        .where(
            other.c.study_id == job.c.study_id,
            other.c.id != job.c.id,
            other.c.state.in_(_UNFINISHED),
            other.c.worker_id.is_not(None),
        )
        .exists()
    )
    # A job that ran goes before a newer revision of its study, which waits for it.
    oldest = select(func.min(job.c.id)).where(job.c.state.in_(_UNFINISHED), job.c.worker_id.is_(None), ~busy)
    with store.read() as connection:  # a look holds nobody up, and most looks find nothing
        if connection.execute(oldest).scalar() is None:
            return None
    with store.write() as connection:
        found = connection.execute(oldest).scalar()
        if found is None or not has_place(store, connection):
            return None
        connection.execute(update(job).where(job.c.id == found).values(worker_id=store.worker_id))
        return int(found)
