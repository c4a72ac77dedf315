"""The history of the database's schema, run by alembic at start.

Promises: all steps of one upgrade happen in one transaction, so a kill leaves the old schema or the new one.
Every step has its way back, which loses no study, image, result or delivery.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration with this folder as script location."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision within the caller's transaction."""
    command.upgrade(configuration(connection), "head")


def downgrade(connection: Connection, target: str) -> None:
    """Bring the schema back to an earlier revision within the caller's transaction."""
    command.downgrade(configuration(connection), target)


def revisions() -> set[str]:
    """Every schema there is."""
    return {one.revision for one in ScriptDirectory.from_config(configuration()).walk_revisions()}
