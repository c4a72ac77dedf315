"""The outbox: which object still has to reach which destination.

Promises: an object is offered again until its destination has answered for good, and the answer is kept.
Refuses to send what a newer result of its study replaces: it is superseded as soon as nothing of it is on
its way. Of workers that share a database one at a time sends what a destination is due of a study.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Exists, func, insert, select, update

from app.node.store.database import Store
from app.node.store.schema import DeliveryState, IdentityCode, JobState, delivery, job, result_object, study
from app.node.store.versions import is_replaced, supersede
from app.node.store.work import REJECTION_NOTE, ResultObject
from app.node.store.workers import has_place


@dataclass(frozen=True)
class Delivery:
    """One object to be sent. Times are seconds since 1970."""

    delivery_id: int
    study_ref: str
    study_instance_uid: str
    revision: int
    attempts: int
    queued_at: float
    identity: str | None
    result: ResultObject


def result_folder(store: Store, study_instance_uid: str, revision: int) -> Path:
    """Where a result is kept; its name is a digest, never a received value."""
    return store.results_folder / hashlib.sha256(study_instance_uid.encode()).hexdigest() / str(revision)


def _held(store: Store) -> ColumnElement[bool]:
    """Whether a delivery is on its way by the store's worker, as all are where there is one worker alone."""
    sending = delivery.c.state == DeliveryState.SENDING
    return sending & delivery.c.worker_id.is_not_distinct_from(store.worker_id)


def _sent_by_another(store: Store) -> Exists:
    """Of a job: whether another worker sends something of its study to the same destination."""
    other, others_object, others_job = delivery.alias(), result_object.alias(), job.alias()
    return (
        select(other.c.id)
        .join(others_object, others_object.c.id == other.c.object_id)
        .join(others_job, others_job.c.id == others_object.c.job_id)
        .where(
            other.c.destination == delivery.c.destination,
            other.c.state == DeliveryState.SENDING,
            other.c.worker_id.is_distinct_from(store.worker_id),
            others_job.c.study_id == job.c.study_id,
        )
        .exists()
    )


def requeue_interrupted(store: Store, next_try_at: float, destination: str | None = None) -> int:
    """After a start or a fault: what was being sent, to one destination or to all, is due again."""
    with store.write() as connection:
        query = update(delivery).where(_held(store))
        if destination is not None:
            query = query.where(delivery.c.destination == destination)
        changed = connection.execute(query.values(state=DeliveryState.QUEUED, next_try_at=next_try_at))
        supersede(connection)
        return changed.rowcount


def park_unknown(store: Store, destinations: Iterable[str]) -> int:
    """Park what waits for a destination that the settings no longer name. Answers how many."""
    with store.write() as connection:
        changed = connection.execute(
            update(delivery)
            .where(
                delivery.c.state == DeliveryState.QUEUED, delivery.c.destination.not_in(list(destinations))
            )
            .values(
                state=DeliveryState.PARKED,
                message="the settings no longer name this destination: name it again and resend the study",
            )
        )
        return changed.rowcount


def take_due(store: Store, destination: str, now: float, limit: int = 200) -> list[Delivery]:
    """Mark what is due for a destination as being sent and answer it, in the order it was made."""
    query = (
        select(delivery, result_object, job.c.revision, study.c.study_ref, study.c.study_instance_uid)
        .join(result_object, result_object.c.id == delivery.c.object_id)
        .join(job, job.c.id == result_object.c.job_id)
        .join(study, study.c.id == job.c.study_id)
        .where(
            delivery.c.destination == destination,
            delivery.c.state == DeliveryState.QUEUED,
            delivery.c.next_try_at <= now,
        )
        .order_by(job.c.id, result_object.c.position)
        .limit(limit)
    )
    if store.worker_id is not None:
        query = query.where(~_sent_by_another(store))
    with store.read() as connection:  # a look costs no lock, and most looks find nothing
        if connection.execute(query.limit(1)).first() is None:
            return []
    with store.write() as connection:
        if not has_place(store, connection):
            return []
        due = [
            Delivery(
                delivery_id=row.id,
                study_ref=row.study_ref,
                study_instance_uid=row.study_instance_uid,
                revision=row.revision,
                attempts=row.attempts,
                queued_at=row.queued_at,
                identity=row.identity,
                result=ResultObject(
                    file=row.file,
                    kind=row.kind,
                    sop_class_uid=row.sop_class_uid,
                    sop_instance_uid=row.sop_instance_uid,
                    series_instance_uid=row.series_instance_uid,
                    sha256=row.sha256,
                ),
            )
            for row in connection.execute(query)
        ]
        connection.execute(
            update(delivery)
            .where(delivery.c.id.in_([one.delivery_id for one in due]))
            .values(state=DeliveryState.SENDING, worker_id=store.worker_id)
        )
        return due


def is_wanted(store: Store, delivery_id: int) -> bool:
    """Whether it still is this worker's to send, and no newer result has come up since it was taken."""
    with store.read() as connection:
        query = select(delivery.c.id).where(delivery.c.id == delivery_id, _held(store), ~is_replaced())
        return connection.execute(query).first() is not None


def record_accepted(
    store: Store, delivery_id: int, status: int, message: str, now: float, identity: str | None
) -> None:
    """The destination has the object; `identity` is a code as in schema.py."""
    _record(store, [delivery_id], DeliveryState.ACCEPTED, status, message, accepted_at=now, identity=identity)


def record_retry(
    store: Store, delivery_ids: Sequence[int], status: int | None, message: str, next_try_at: float
) -> None:
    """The destination did not take the objects this time."""
    _record(store, delivery_ids, DeliveryState.QUEUED, status, message, next_try_at=next_try_at)


def record_parked(store: Store, delivery_ids: Sequence[int], status: int | None, message: str) -> None:
    """The destination will not take the objects; a person has to look."""
    _record(store, delivery_ids, DeliveryState.PARKED, status, message)


def record_mismatch(store: Store, delivery_ids: Sequence[int], message: str) -> None:
    """The destination's study names another patient; a person has to look."""
    _record(store, delivery_ids, DeliveryState.PARKED, None, message, identity=IdentityCode.MISMATCH)


def record_untouched(store: Store, delivery_ids: Sequence[int]) -> None:
    """They were taken and not tried: due as before, or superseded where a newer result has come up."""
    with store.write() as connection:
        these = delivery.c.id.in_(list(delivery_ids))
        connection.execute(update(delivery).where(these, _held(store)).values(state=DeliveryState.QUEUED))
        supersede(connection, these)


def _record(
    store: Store,
    delivery_ids: Sequence[int],
    state: DeliveryState,
    status: int | None,
    message: str,
    **more: float | str | None,
) -> None:
    with store.write() as connection:
        these = delivery.c.id.in_(list(delivery_ids))
        connection.execute(
            update(delivery)
            .where(these, _held(store))
            .values(state=state, status=status, message=message, attempts=delivery.c.attempts + 1, **more)
        )
        if state is not DeliveryState.ACCEPTED:
            supersede(connection, these)


def requeue_study(
    store: Store, study_id: int, destinations: Iterable[str], now: float, *, release_identity: bool = False
) -> int:
    """Send a study's newest result again, whatever became of it. Answers how many deliveries.

    `release_identity`: without comparing its patient with the destination's.
    A destination that the settings name by now and did not when the result was made gets it too.
    """
    newest = (
        select(func.max(job.c.id))
        .where(job.c.study_id == study_id, job.c.state == JobState.DONE)
        .scalar_subquery()
    )
    with store.write() as connection:
        kinds = {
            row.id: row.kind
            for row in connection.execute(
                select(result_object.c.id, result_object.c.kind).where(result_object.c.job_id == newest)
            )
        }
        identity = IdentityCode.RELEASED if release_identity else None
        again = (DeliveryState.ACCEPTED, DeliveryState.QUEUED, DeliveryState.PARKED)
        changed = connection.execute(
            update(delivery)
            .where(delivery.c.object_id.in_(list(kinds)), delivery.c.state.in_(again))
            .values(state=DeliveryState.QUEUED, attempts=0, queued_at=now, next_try_at=now, identity=identity)
        ).rowcount
        for name in destinations:
            having = set(
                connection.execute(
                    select(delivery.c.object_id).where(delivery.c.destination == name)
                ).scalars()
            )
            for object_id, kind in kinds.items():
                # A rejection note speaks of what one destination holds: no other gets it.
                if object_id not in having and kind != REJECTION_NOTE:
                    connection.execute(
                        insert(delivery).values(
                            object_id=object_id,
                            destination=name,
                            state=DeliveryState.QUEUED,
                            queued_at=now,
                            next_try_at=now,
                            identity=identity,
                        )
                    )
                    changed += 1
        return changed
