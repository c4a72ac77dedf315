"""What results set aside, counted by reason."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Frozen, as every step is. Results of earlier releases are not counted.
_STATEMENT = """CREATE TABLE set_aside (
    job_id INTEGER NOT NULL,
    reason VARCHAR(64) NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (job_id, reason),
    FOREIGN KEY(job_id) REFERENCES job (id)
)"""


def upgrade() -> None:
    """Make the table."""
    op.execute(_STATEMENT)


def downgrade() -> None:
    """Drop it: the counts are let go of; `result.json` of each result has them."""
    op.drop_table("set_aside")
