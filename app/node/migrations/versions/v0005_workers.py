"""Workers that share a database: who they are, and what each has taken."""

from __future__ import annotations

from alembic import op

from app.node.migrations.dialects import run

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Frozen, as every step is.
_STATEMENTS = (
    """CREATE TABLE worker (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name VARCHAR NOT NULL,
    beats INTEGER DEFAULT '0' NOT NULL,
    seen_at FLOAT NOT NULL
)""",
    "ALTER TABLE job ADD COLUMN worker_id INTEGER",
    "ALTER TABLE delivery ADD COLUMN worker_id INTEGER",
)


def upgrade() -> None:
    """Add table and columns."""
    run(_STATEMENTS)


def downgrade() -> None:
    """Drop them: the releases before know one worker, which takes whatever is unfinished."""
    op.drop_column("delivery", "worker_id")
    op.drop_column("job", "worker_id")
    op.drop_table("worker")
