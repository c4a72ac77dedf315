"""One statement for both databases: the steps are written in SQLite's words."""

from __future__ import annotations

import re

from alembic import op

_PRIMARY_KEYS = (
    ("INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "SERIAL PRIMARY KEY"),
    (r"\bid INTEGER NOT NULL,", "id SERIAL NOT NULL,"),
)


def run(statements: tuple[str, ...]) -> None:
    """Run statements on the database at hand; PostgreSQL numbers rows by sequences."""
    translate = op.get_bind().dialect.name == "postgresql"
    for statement in statements:
        for sqlite, postgresql in _PRIMARY_KEYS if translate else ():
            statement = re.sub(sqlite, postgresql, statement)
        op.execute(statement)
