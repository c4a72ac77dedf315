"""The newest finished job of each study, in columns that every release has.

Promises: reads databases of all releases as they are. Changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from app.node.store.database import Store
from app.node.store.schema import InstanceKind, JobState, instance, job, study


@dataclass(frozen=True)
class FinishedStudy:
    """A study with its newest job that is done or failed.

    `images`: SOP Instance UIDs of what the job saw. `seconds`: from the study's close to the end of the job.
    """

    study_instance_uid: str
    study_ref: str
    revision: int
    state: str
    failure_code: str | None
    seconds: float | None
    images: frozenset[str]


def finished_studies(store: Store) -> list[FinishedStudy]:
    """All studies that have a finished job, in the order in which they first came."""
    newest = (
        select(func.max(job.c.id))
        .where(job.c.state.in_((JobState.DONE, JobState.FAILED)))
        .group_by(job.c.study_id)
    )
    query = (
        select(
            study.c.id,
            study.c.study_instance_uid,
            study.c.study_ref,
            job.c.revision,
            job.c.state,
            job.c.failure_code,
            job.c.closed_at,
            job.c.finished_at,
            job.c.input_until,
        )
        .join(job, job.c.study_id == study.c.id)
        .where(job.c.id.in_(newest))
        .order_by(study.c.id)
    )
    with store.read() as connection:
        found = []
        for row in connection.execute(query).all():
            images = select(instance.c.sop_instance_uid).where(
                instance.c.study_id == row.id,
                instance.c.id <= row.input_until,
                instance.c.kind != InstanceKind.QUARANTINE,
            )
            found.append(
                FinishedStudy(
                    study_instance_uid=row.study_instance_uid,
                    study_ref=row.study_ref,
                    revision=row.revision,
                    state=row.state,
                    failure_code=row.failure_code,
                    seconds=None if row.finished_at is None else row.finished_at - row.closed_at,
                    images=frozenset(connection.execute(images).scalars()),
                )
            )
        return found
