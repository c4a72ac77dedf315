"""Results that replace each other: superseded deliveries, identity at the destination, rejection notes."""

from __future__ import annotations

from alembic import op

from app.node.migrations.dialects import run

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Frozen, as every step is.
_STATEMENTS = (
    "ALTER TABLE delivery ADD COLUMN identity VARCHAR(32)",
    "ALTER TABLE delivery ADD COLUMN rejected_by INTEGER REFERENCES result_object (id)",
    # What the release before would still have sent after a newer result.
    """UPDATE delivery SET state = 'superseded' WHERE state IN ('queued', 'sending', 'parked')
    AND EXISTS (
        SELECT 1 FROM result_object
        JOIN job ON job.id = result_object.job_id
        JOIN job AS newer ON newer.study_id = job.study_id AND newer.id > job.id AND newer.state = 'done'
        WHERE result_object.id = delivery.object_id
    )""",
)


def upgrade() -> None:
    """Add the columns, and settle what is replaced already."""
    run(_STATEMENTS)


def downgrade() -> None:
    """Drop the columns. The release before knows no superseded delivery and must not send one: parked.

    What was found of the patient at the destination, and which note names an object, is let go of.
    """
    op.execute("UPDATE delivery SET state = 'parked' WHERE state = 'superseded'")
    op.drop_column("delivery", "rejected_by")
    op.drop_column("delivery", "identity")
