"""What arrives: instances, the studies they make, and when a study closes.

Promises: an instance and what it does to its study commit together. Refuses to change what is known under a
UID: identical bytes change nothing, other bytes go into quarantine. Where they claim to be an image, their
study opens as for a late image: the result that was sent knows nothing of them, the next one warns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, select, update

from app.node.crash import crash_point
from app.node.store.database import Store
from app.node.store.schema import (
    InstanceKind,
    JobState,
    StudyState,
    instance,
    job,
    result_object,
    study,
    warning,
)

DIFFERENT_BYTES = "duplicate-uid-different-bytes"
LATER_BYTES_USED = "resent-version-used"
_CAME_AGAIN = (
    "arrived again with other bytes: the first version is used, the other is kept in quarantine; find out at "
    "the sender which one is right."
)
_ELSEWHERE = (
    "arrived in two studies: the one where it came first uses it, the other keeps it in quarantine; if it "
    "was moved at its source, `busmap retry --use-resent` on the other study moves it here too."
)
_OPENING = (InstanceKind.IMAGE, InstanceKind.QUARANTINE)  # the kinds whose arrival may open a study


@dataclass(frozen=True)
class ReceivedInstance:
    """One received object whose bytes are durable. `is_image`: its arrival opens its study."""

    study_instance_uid: str
    study_ref: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    file_sha256: str
    content_sha256: str
    size_bytes: int
    is_image: bool
    received_at: float


class Outcome(StrEnum):
    """What keeping an instance came to."""

    NEW = "new"
    DUPLICATE = "duplicate"
    QUARANTINE = "quarantine"


@dataclass(frozen=True)
class OpenStudy:
    """A study that may be due to close. `last_instance_id` grows with each arrival."""

    study_id: int
    study_ref: str
    close_requested: bool
    last_received_at: float
    last_instance_id: int


@dataclass(frozen=True)
class ClosedStudy:
    """A study that was just closed."""

    study_ref: str
    job_id: int
    revision: int
    images: int


@dataclass(frozen=True)
class Known:
    """What is known of a UID and its bytes before they are kept.

    `is_result`: busmap made the object. `file_sha256`: names the file kept for exactly these bytes.
    """

    is_result: bool
    file_sha256: str | None


# Composed once: SQLAlchemy takes longer to compose a statement than SQLite to run it.
_KNOWN = select(
    exists().where(result_object.c.sop_instance_uid == bindparam("uid")),
    select(instance.c.file_sha256)
    .where(instance.c.sop_instance_uid == bindparam("uid"), instance.c.content_sha256 == bindparam("content"))
    .scalar_subquery(),
)
_VERSIONS = select(instance.c.content_sha256, instance.c.study_id, instance.c.kind).where(
    instance.c.sop_instance_uid == bindparam("uid")
)
_FIND_STUDY = select(study.c.id).where(study.c.study_instance_uid == bindparam("study_uid"))
_ADD_STUDY = insert(study)
_ADD_INSTANCE = insert(instance)
# A study that holds no image has nothing to analyse and is not opened.
_OPEN_STUDY = (
    update(study)
    .where(
        study.c.id == bindparam("study"),
        exists().where(instance.c.study_id == bindparam("study"), instance.c.kind == InstanceKind.IMAGE),
    )
    .values(last_received_at=bindparam("at"), state=StudyState.OPEN)
)


def look_up(store: Store, sop_instance_uid: str, content_sha256: str) -> Known:
    """What is known of an object that arrived."""
    with store.read() as connection:
        found = connection.execute(_KNOWN, {"uid": sop_instance_uid, "content": content_sha256}).one()
        return Known(bool(found[0]), found[1])


def is_known_file(store: Store, file_sha256: str) -> bool:
    """Whether a row names this file."""
    query = select(instance.c.id).where(instance.c.file_sha256 == file_sha256).limit(1)
    with store.read() as connection:
        return connection.execute(query).first() is not None


def keep_instances(store: Store, batch: Sequence[ReceivedInstance]) -> list[Outcome]:
    """Commit instances whose files are durable already, and open their studies where they call for that.

    All in one transaction: after an error none is kept.
    """
    with store.write() as connection:
        outcomes = [_keep(connection, received) for received in batch]
        crash_point("images-within-transaction")
    return outcomes


def _keep(connection: Connection, received: ReceivedInstance) -> Outcome:
    known = connection.execute(_VERSIONS, {"uid": received.sop_instance_uid}).all()
    if any(row.content_sha256 == received.content_sha256 for row in known):
        return Outcome.DUPLICATE
    study_id = _study_row(connection, received)
    if known:
        _insert_instance(connection, received, study_id, InstanceKind.QUARANTINE)
        of_studies = {study_id, *(row.study_id for row in known)}
        message = f"Image {received.sop_instance_uid} " + (
            _CAME_AGAIN if len(of_studies) == 1 else _ELSEWHERE
        )
        for affected in of_studies:
            _warn(connection, affected, DIFFERENT_BYTES, message, received.received_at)
            if received.is_image or any(row.kind != InstanceKind.OTHER for row in known):
                connection.execute(_OPEN_STUDY, {"study": affected, "at": received.received_at})
        return Outcome.QUARANTINE
    kind = InstanceKind.IMAGE if received.is_image else InstanceKind.OTHER
    _insert_instance(connection, received, study_id, kind)
    if received.is_image:
        connection.execute(_OPEN_STUDY, {"study": study_id, "at": received.received_at})
    return Outcome.NEW


def _study_row(connection: Connection, received: ReceivedInstance) -> int:
    found = connection.execute(_FIND_STUDY, {"study_uid": received.study_instance_uid}).scalar()
    if found is not None:
        return int(found)
    added = connection.execute(
        _ADD_STUDY,
        {
            "study_instance_uid": received.study_instance_uid,
            "study_ref": received.study_ref,
            "state": StudyState.IDLE,
            "first_received_at": received.received_at,
            "last_received_at": received.received_at,
        },
    )
    return int(added.inserted_primary_key[0])  # type: ignore[index]


def _insert_instance(
    connection: Connection, received: ReceivedInstance, study_id: int, kind: InstanceKind
) -> None:
    connection.execute(
        _ADD_INSTANCE,
        {
            "study_id": study_id,
            "sop_instance_uid": received.sop_instance_uid,
            "sop_class_uid": received.sop_class_uid,
            "series_instance_uid": received.series_instance_uid,
            "transfer_syntax_uid": received.transfer_syntax_uid,
            "file_sha256": received.file_sha256,
            "content_sha256": received.content_sha256,
            "size_bytes": received.size_bytes,
            "kind": kind,
            "received_at": received.received_at,
        },
    )


def _warn(connection: Connection, study_id: int, code: str, message: str, at: float) -> None:
    said = select(warning.c.id).where(
        warning.c.study_id == study_id, warning.c.code == code, warning.c.message == message
    )
    if connection.execute(said).first() is None:
        connection.execute(
            insert(warning).values(study_id=study_id, code=code, message=message, created_at=at)
        )


def open_studies(store: Store) -> list[OpenStudy]:
    """All studies that images still arrive for."""
    newest = (
        select(func.max(instance.c.id))
        .where(instance.c.study_id == study.c.id, instance.c.kind.in_(_OPENING))
        .scalar_subquery()
    )
    query = select(
        study.c.id, study.c.study_ref, study.c.close_requested, study.c.last_received_at, newest
    ).where(study.c.state == StudyState.OPEN)
    with store.read() as connection:
        return [OpenStudy(row[0], row[1], bool(row[2]), row[3], row[4]) for row in connection.execute(query)]


def close_study(store: Store, found: OpenStudy, now: float) -> ClosedStudy | None:
    """Close a study as it was found and queue its job; None where an image has arrived since."""
    with store.write() as connection:
        counted = connection.execute(
            select(func.max(instance.c.id), func.count().filter(instance.c.kind == InstanceKind.IMAGE)).where(
                instance.c.study_id == found.study_id, instance.c.kind.in_(_OPENING)
            )
        ).one()
        state = connection.execute(select(study.c.state).where(study.c.id == found.study_id)).scalar_one()
        if counted[0] != found.last_instance_id or state != StudyState.OPEN:
            return None
        until, revision = connection.execute(
            select(
                select(func.max(instance.c.id))
                .where(instance.c.study_id == found.study_id)
                .scalar_subquery(),
                select(func.count()).where(job.c.study_id == found.study_id).scalar_subquery() + 1,
            )
        ).one()
        connection.execute(
            update(job)
            .where(job.c.study_id == found.study_id, job.c.state == JobState.QUEUED)
            .values(state=JobState.SUPERSEDED, finished_at=now)
        )
        created = connection.execute(
            insert(job).values(
                study_id=found.study_id,
                revision=revision,
                state=JobState.QUEUED,
                input_until=until,
                closed_at=now,
            )
        )
        connection.execute(
            update(study)
            .where(study.c.id == found.study_id)
            .values(state=StudyState.CLOSED, close_requested=0)
        )
        job_id = int(created.inserted_primary_key[0])  # type: ignore[index]
        return ClosedStudy(found.study_ref, job_id, revision, counted[1])


def request_close(store: Store, study_id: int) -> StudyState:
    """Ask for a study to be closed now; answers the state it was in. Only an open study changes."""
    with store.write() as connection:
        state = StudyState(
            connection.execute(select(study.c.state).where(study.c.id == study_id)).scalar_one()
        )
        if state is StudyState.OPEN:
            connection.execute(update(study).where(study.c.id == study_id).values(close_requested=1))
        return state


def request_retry(store: Store, study_id: int, now: float, *, use_resent: bool) -> bool:
    """Open a study whose newest job failed and ask for it to be closed; False where none failed.

    Parameters
    ----------
    use_resent : take the newest version of each image that came again with other bytes; the version used
        before goes to quarantine in its place, in another study too, which is then analysed without it. With
        such an image any study is opened.
    """
    with store.write() as connection:
        newest = connection.execute(
            select(job.c.state).where(job.c.study_id == study_id).order_by(job.c.revision.desc()).limit(1)
        ).scalar()
        changed = False
        if use_resent and newest in (None, JobState.DONE, JobState.FAILED):
            changed = _use_resent(connection, study_id, now)
        if newest != JobState.FAILED and not changed:
            return False
        connection.execute(
            update(study).where(study.c.id == study_id).values(state=StudyState.OPEN, close_requested=1)
        )
        return True


def _use_resent(connection: Connection, study_id: int, now: float) -> bool:
    """Swap images with their later versions; False where none came again with other bytes."""
    resent = dict(
        connection.execute(
            select(instance.c.sop_instance_uid, func.max(instance.c.id))
            .where(instance.c.study_id == study_id, instance.c.kind == InstanceKind.QUARANTINE)
            .group_by(instance.c.sop_instance_uid)
        ).all()
    )
    used = connection.execute(
        select(instance.c.id, instance.c.sop_instance_uid, instance.c.study_id).where(
            instance.c.sop_instance_uid.in_(resent), instance.c.kind == InstanceKind.IMAGE
        )
    ).all()
    later = [row for row in used if resent[row.sop_instance_uid] > row.id]
    for row in later:
        for changed, kind in (
            (row.id, InstanceKind.QUARANTINE),
            (resent[row.sop_instance_uid], InstanceKind.IMAGE),
        ):
            connection.execute(update(instance).where(instance.c.id == changed).values(kind=kind))
        for affected in {study_id, row.study_id}:
            _now_used(connection, affected, row.sop_instance_uid, now, moved=row.study_id != study_id)
    for left in {row.study_id for row in later} - {study_id}:
        # Opened and due at once, if it still holds an image.
        connection.execute(_OPEN_STUDY, {"study": left, "at": now})
        connection.execute(
            update(study)
            .where(study.c.id == left, study.c.state == StudyState.OPEN)
            .values(close_requested=1)
        )
    return bool(later)


def _now_used(
    connection: Connection, study_id: int, sop_instance_uid: str, now: float, *, moved: bool
) -> None:
    """The warning that the first version is used holds no longer; the next result says which one is."""
    connection.execute(
        delete(warning).where(
            warning.c.study_id == study_id,
            warning.c.code == DIFFERENT_BYTES,
            warning.c.message.startswith(f"Image {sop_instance_uid} ", autoescape=True),
        )
    )
    what = "was moved from one study to another" if moved else "arrived again with other bytes"
    message = f"Image {sop_instance_uid} {what}: the later version is used, on request."
    _warn(connection, study_id, LATER_BYTES_USED, message, now)
