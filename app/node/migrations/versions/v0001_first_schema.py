"""The first schema: studies, instances, warnings, jobs, results, deliveries."""

from __future__ import annotations

from app.node.migrations.dialects import run

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Frozen: what the first release made. Later changes are later steps.
_STATEMENTS = (
    """CREATE TABLE study (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    study_instance_uid VARCHAR(64) NOT NULL,
    study_ref VARCHAR(16) NOT NULL,
    state VARCHAR(16) NOT NULL,
    close_requested INTEGER DEFAULT '0' NOT NULL,
    first_received_at FLOAT NOT NULL,
    last_received_at FLOAT NOT NULL,
    UNIQUE (study_instance_uid)
)""",
    "CREATE INDEX ix_study_study_ref ON study (study_ref)",
    "CREATE INDEX study_by_state ON study (state)",
    """CREATE TABLE instance (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    study_id INTEGER NOT NULL,
    sop_instance_uid VARCHAR(64) NOT NULL,
    sop_class_uid VARCHAR(64) NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL,
    transfer_syntax_uid VARCHAR(64) NOT NULL,
    file_sha256 VARCHAR(64) NOT NULL,
    content_sha256 VARCHAR(64) NOT NULL,
    size_bytes INTEGER NOT NULL,
    kind VARCHAR(16) NOT NULL,
    received_at FLOAT NOT NULL,
    UNIQUE (sop_instance_uid, content_sha256),
    FOREIGN KEY(study_id) REFERENCES study (id)
)""",
    "CREATE UNIQUE INDEX instance_one_by_uid ON instance (sop_instance_uid) WHERE kind != 'quarantine'",
    "CREATE INDEX ix_instance_study_id ON instance (study_id)",
    """CREATE TABLE job (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    study_id INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    state VARCHAR(16) NOT NULL,
    input_until INTEGER NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    composed_at VARCHAR(40),
    result_number INTEGER,
    predecessor_id INTEGER,
    result_status VARCHAR(32),
    failure_code VARCHAR(64),
    failure_message VARCHAR,
    closed_at FLOAT NOT NULL,
    finished_at FLOAT,
    UNIQUE (study_id, revision),
    FOREIGN KEY(study_id) REFERENCES study (id),
    FOREIGN KEY(predecessor_id) REFERENCES job (id)
)""",
    "CREATE INDEX job_by_state ON job (state)",
    """CREATE TABLE warning (
    id INTEGER NOT NULL,
    study_id INTEGER NOT NULL,
    code VARCHAR(64) NOT NULL,
    message VARCHAR NOT NULL,
    created_at FLOAT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (study_id, code, message),
    FOREIGN KEY(study_id) REFERENCES study (id)
)""",
    "CREATE INDEX ix_warning_study_id ON warning (study_id)",
    """CREATE TABLE result_object (
    id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    file VARCHAR NOT NULL,
    kind VARCHAR(32) NOT NULL,
    sop_class_uid VARCHAR(64) NOT NULL,
    sop_instance_uid VARCHAR(64) NOT NULL,
    series_instance_uid VARCHAR(64) NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (job_id, position),
    FOREIGN KEY(job_id) REFERENCES job (id)
)""",
    "CREATE INDEX ix_result_object_sop_instance_uid ON result_object (sop_instance_uid)",
    """CREATE TABLE delivery (
    id INTEGER NOT NULL,
    object_id INTEGER NOT NULL,
    destination VARCHAR NOT NULL,
    state VARCHAR(16) NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    queued_at FLOAT NOT NULL,
    next_try_at FLOAT NOT NULL,
    status INTEGER,
    message VARCHAR,
    accepted_at FLOAT,
    PRIMARY KEY (id),
    UNIQUE (object_id, destination),
    FOREIGN KEY(object_id) REFERENCES result_object (id)
)""",
    "CREATE INDEX delivery_by_state ON delivery (destination, state, next_try_at)",
)


def upgrade() -> None:
    """Make the tables."""
    run(_STATEMENTS)
