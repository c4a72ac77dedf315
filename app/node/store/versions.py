"""Results that replace each other.

Promises: what a newer result of its study replaces is let go of as soon as nothing of it is on its way.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Exists, select, true, update

from app.node.store.schema import DeliveryState, JobState, delivery, job, result_object


def is_replaced() -> Exists:
    """Of a row of `delivery`: whether its study has a newer result than the one that it belongs to."""
    own, newer = job.alias("own"), job.alias("newer")
    return (
        select(newer.c.id)
        .join(own, (own.c.study_id == newer.c.study_id) & (own.c.id < newer.c.id))
        .join(result_object, result_object.c.job_id == own.c.id)
        .where(result_object.c.id == delivery.c.object_id, newer.c.state == JobState.DONE)
        .exists()
    )


def supersede(connection: Connection, which: ColumnElement[bool] | None = None) -> None:
    """Let go of deliveries (all, or `which`) that wait or are parked and that a newer result replaces."""
    connection.execute(
        update(delivery)
        .where(
            true() if which is None else which,
            delivery.c.state.in_((DeliveryState.QUEUED, DeliveryState.PARKED)),
            is_replaced(),
        )
        .values(state=DeliveryState.SUPERSEDED, message="a newer result of the study replaces it")
    )


def supersede_earlier(connection: Connection, job_id: int) -> None:
    """A job is done: let go of what waits or is parked of the results that a newer one now replaces."""
    own = select(job.c.study_id).where(job.c.id == job_id).scalar_subquery()
    objects = (
        select(result_object.c.id)
        .join(job, job.c.id == result_object.c.job_id)
        .where(job.c.study_id == own, job.c.id <= job_id)
    )
    supersede(connection, delivery.c.object_id.in_(objects))
