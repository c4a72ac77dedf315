"""The tables of the node's database, and the states their rows may be in.

study.state
    idle    holds no image to analyse        -> open   an image to analyse arrived
    open    images arrive                    -> closed the quiet period passed, or somebody asked for it
    closed  a job for this revision exists   -> open   a late image arrived, or other bytes under the UID
                                                       of one, or somebody asked to try again: the next
                                                       revision begins
job.state (one a revision)
    queued      -> running      the worker took it
                -> superseded   the next revision closed before this one began            (terminal)
    running     -> running      a restart, another attempt, or another worker's turn
                -> done         result and delivery rows committed together               (terminal)
                -> failed       cannot be analysed, or all attempts are spent             (terminal)
delivery.state (one an object and destination)
    queued      -> sending      an association takes it
    sending     -> accepted     the destination answered success or a warning
                -> queued       network, 0xA7xx, or a restart: tried again later
                -> parked       refused for good, out of time, or the destination's study names another
                                patient
                -> superseded   would be queued or parked, but a newer result of the study exists
    accepted    -> queued       somebody asked to send it again
    parked      -> queued       somebody asked to send it again
    queued, parked -> superseded   a newer result of the study was committed                 (terminal)
    What is superseded is never sent: no destination gets a result after the one that replaces it.
    (committed, confirmed by storage commitment, has its place after accepted.)
delivery.identity (what is known of the patient at the destination, app/node/identity.py)
    NULL        not sent yet
    matched     the destination's study names the same patient
    mismatch    it names another: parked until a person mends it, or releases it
    released    a person asked to send it all the same; not compared again
    off         the settings ask for no comparison
    any other   sent without comparison; the code says why
job.worker_id, delivery.worker_id
    The worker that has taken it: what another one does for it changes nothing. NULL: nobody, or the one
    worker there is. Where workers share a database, a worker that falls silent loses its row in `worker`, and
    what it had is free again.
delivery.rejected_by
    The rejection note that names this object, by its row in result_object; NULL where none does.
instance.kind
    image       to be analysed; its arrival opens its study
    other       kept with its study and set aside: reports, foreign captures
    quarantine  other bytes under a UID that was known already; kept, never analysed

Times are seconds since 1970, UTC. `job.composed_at` is ISO 8601 and is fixed when a job first starts.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

HEAD = "0005"  # the newest alembic revision; migrations/versions holds them all


class StudyState(StrEnum):
    """States of study.state."""

    IDLE = "idle"
    OPEN = "open"
    CLOSED = "closed"


class JobState(StrEnum):
    """States of job.state."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class DeliveryState(StrEnum):
    """States of delivery.state."""

    QUEUED = "queued"
    SENDING = "sending"
    ACCEPTED = "accepted"
    PARKED = "parked"
    SUPERSEDED = "superseded"


class IdentityCode(StrEnum):
    """Values of delivery.identity that say what was found; any other says why nothing was compared."""

    MATCHED = "matched"
    MISMATCH = "mismatch"
    RELEASED = "released"
    OFF = "off"


class InstanceKind(StrEnum):
    """Kinds of instance.kind."""

    IMAGE = "image"
    OTHER = "other"
    QUARANTINE = "quarantine"


metadata = MetaData()

study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_instance_uid", String(64), nullable=False, unique=True),
    Column("study_ref", String(16), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("close_requested", Integer, nullable=False, server_default="0"),
    Column("first_received_at", Float, nullable=False),
    Column("last_received_at", Float, nullable=False),
    Index("study_by_state", "state"),
    sqlite_autoincrement=True,
)

instance = Table(
    "instance",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("series_instance_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    # Names the file; the content digest leaves the file meta information out and adds the transfer syntax.
    Column("file_sha256", String(64), nullable=False),
    Column("content_sha256", String(64), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("received_at", Float, nullable=False),
    UniqueConstraint("sop_instance_uid", "content_sha256"),
    # One truth a UID: whatever comes later under it goes into quarantine.
    Index(
        "instance_one_by_uid",
        "sop_instance_uid",
        unique=True,
        sqlite_where=text("kind != 'quarantine'"),
        postgresql_where=text("kind != 'quarantine'"),
    ),
    sqlite_autoincrement=True,
)

warning = Table(
    "warning",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("code", String(64), nullable=False),
    Column("message", String, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("study_id", "code", "message"),
)

job = Table(
    "job",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    # The last instance that belongs to this revision: a retry sees the same input, whatever came since.
    Column("input_until", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("composed_at", String(40)),
    Column("result_number", Integer),
    Column("predecessor_id", ForeignKey("job.id")),
    Column("result_status", String(32)),
    Column("failure_code", String(64)),
    Column("failure_message", String),
    Column("closed_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("worker_id", Integer),
    UniqueConstraint("study_id", "revision"),
    Index("job_by_state", "state"),
    sqlite_autoincrement=True,
)

# How many objects, frames or regions the result of a job sets aside, by reason (docs/set-aside.md).
set_aside = Table(
    "set_aside",
    metadata,
    Column("job_id", ForeignKey("job.id"), primary_key=True),
    Column("reason", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
)

result_object = Table(
    "result_object",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("job_id", ForeignKey("job.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("file", String, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False, index=True),
    Column("series_instance_uid", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    UniqueConstraint("job_id", "position"),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("object_id", ForeignKey("result_object.id"), nullable=False),
    Column("destination", String, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("queued_at", Float, nullable=False),
    Column("next_try_at", Float, nullable=False),
    Column("status", Integer),
    Column("message", String),
    Column("accepted_at", Float),
    Column("identity", String(32)),
    Column("rejected_by", ForeignKey("result_object.id")),
    Column("worker_id", Integer),
    UniqueConstraint("object_id", "destination"),
    Index("delivery_by_state", "destination", "state", "next_try_at"),
)

# Every release reads this, older ones too: it never changes.
schema_change = Table(
    "schema_change",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("came_from", String(16)),
    Column("schema", String(16), nullable=False),
    Column("release", String(32), nullable=False),
    Column("changed_at", Float, nullable=False),
)

# Workers that share a database. `beats` grows while the worker lives; `seen_at` is for people to read.
worker = Table(
    "worker",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String, nullable=False),
    Column("beats", Integer, nullable=False, server_default="0"),
    Column("seen_at", Float, nullable=False),
    sqlite_autoincrement=True,
)
