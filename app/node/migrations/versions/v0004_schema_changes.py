"""Who brought the schema where: what an older release can say of a newer database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. Frozen for good: every later release has to read it."""
    op.create_table(
        "schema_change",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("came_from", sa.String(16)),
        sa.Column("schema", sa.String(16), nullable=False),
        sa.Column("release", sa.String(32), nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop it: the releases before do not look."""
    op.drop_table("schema_change")
