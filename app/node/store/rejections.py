"""Which objects of a destination a newer result replaces, and the rejection notes that say so.

Promises: a note names what its destination has acknowledged, once the newest result is settled there; note,
its delivery and the mark on what it names commit together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from app.node.store.database import Store
from app.node.store.schema import DeliveryState, JobState, delivery, job, result_object, study
from app.node.store.versions import is_replaced
from app.node.store.work import REJECTION_NOTE, STRUCTURED_REPORT, ResultObject


@dataclass(frozen=True)
class Replacement:
    """A study's newest result, and the objects of earlier ones that a destination still takes for valid.

    `composed_at` is ISO 8601; `report_file` is the new structured report in its result's folder;
    `delivery_ids` are those of `rejected`.
    """

    job_id: int
    study_ref: str
    study_instance_uid: str
    revision: int
    result_number: int
    composed_at: str
    report_file: str
    rejected: tuple[ResultObject, ...]
    delivery_ids: tuple[int, ...]


def replacements(store: Store, destination: str, studies: Collection[str] | None) -> list[Replacement]:
    """What a destination is still to be told of, over `studies` or over all."""
    note = delivery.alias("note")
    told = (
        select(note.c.id)
        .where(
            note.c.object_id == delivery.c.rejected_by,
            note.c.destination == delivery.c.destination,
            note.c.state != DeliveryState.SUPERSEDED,
        )
        .exists()
    )
    query = (
        select(delivery.c.id.label("delivery_id"), result_object, job.c.study_id)
        .join(result_object, result_object.c.id == delivery.c.object_id)
        .join(job, job.c.id == result_object.c.job_id)
        .join(study, study.c.id == job.c.study_id)
        .where(
            delivery.c.destination == destination,
            delivery.c.state == DeliveryState.ACCEPTED,
            result_object.c.kind != REJECTION_NOTE,
            is_replaced(),
            ~told,
        )
        .order_by(job.c.id, result_object.c.position)
    )
    if studies is not None:
        query = query.where(study.c.study_instance_uid.in_(list(studies)))
    with store.read() as connection:
        by_study: dict[int, list[Any]] = defaultdict(list)
        for row in connection.execute(query):
            by_study[row.study_id].append(row)
        found = (_replacement(connection, destination, one, rows) for one, rows in by_study.items())
        return [one for one in found if one is not None]


def _replacement(
    connection: Connection, destination: str, study_id: int, rows: list[Any]
) -> Replacement | None:
    """The replacement once the newest result has reached the destination; None before."""
    newest = connection.execute(
        select(job, study.c.study_ref, study.c.study_instance_uid)
        .join(study, study.c.id == job.c.study_id)
        .where(job.c.study_id == study_id, job.c.state == JobState.DONE)
        .order_by(job.c.id.desc())
        .limit(1)
    ).one()
    sent = connection.execute(
        select(delivery.c.state, result_object.c.kind, result_object.c.file)
        .join(result_object, result_object.c.id == delivery.c.object_id)
        .where(
            delivery.c.destination == destination,
            result_object.c.job_id == newest.id,
            result_object.c.kind != REJECTION_NOTE,
        )
    ).all()
    states = {row.state for row in sent}
    waiting = states & {DeliveryState.QUEUED, DeliveryState.SENDING}
    reports = [row.file for row in sent if row.kind == STRUCTURED_REPORT]
    if waiting or DeliveryState.ACCEPTED not in states or not reports:
        return None
    return Replacement(
        job_id=newest.id,
        study_ref=newest.study_ref,
        study_instance_uid=newest.study_instance_uid,
        revision=newest.revision,
        result_number=newest.result_number,
        composed_at=newest.composed_at,
        report_file=reports[0],
        rejected=tuple(
            ResultObject(
                row.file,
                row.kind,
                row.sop_class_uid,
                row.sop_instance_uid,
                row.series_instance_uid,
                row.sha256,
            )
            for row in rows
        ),
        delivery_ids=tuple(row.delivery_id for row in rows),
    )


def record_rejection(
    store: Store, destination: str, replacement: Replacement, made: ResultObject, now: float
) -> None:
    """Commit a note, its delivery, and that the objects it names are named, unless another worker has."""
    with store.write() as connection:
        note_id = connection.execute(
            select(result_object.c.id).where(
                result_object.c.job_id == replacement.job_id,
                result_object.c.sop_instance_uid == made.sop_instance_uid,
            )
        ).scalar()
        if note_id is None:  # another destination that holds the same objects may have it already
            position = connection.execute(
                select(func.max(result_object.c.position) + 1).where(
                    result_object.c.job_id == replacement.job_id
                )
            ).scalar_one()
            created = connection.execute(
                insert(result_object).values(job_id=replacement.job_id, position=position, **vars(made))
            )
            note_id = created.inserted_primary_key[0]  # type: ignore[index]
        queued = select(delivery.c.id).where(
            delivery.c.object_id == note_id, delivery.c.destination == destination
        )
        if connection.execute(queued).first() is not None:
            return
        connection.execute(
            insert(delivery).values(
                object_id=note_id,
                destination=destination,
                state=DeliveryState.QUEUED,
                queued_at=now,
                next_try_at=now,
            )
        )
        connection.execute(
            update(delivery).where(delivery.c.id.in_(replacement.delivery_ids)).values(rejected_by=note_id)
        )
