"""PostgreSQL as the node's database.

Promises: transactions that write queue on one lock of the database, so all that was proven with SQLite's one
writer holds here (ids grow in the order of commits; nothing changes between a look and what follows from it);
a commit is on the server's disk before it is answered; a process that stops in the middle of a transaction
holds the others up for a few seconds and no longer. Refuses a server that does not write through.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from app.errors import StoreError

_WRITE_LOCK = 0x62_75_73_6D_61_70  # "busmap": the key of an advisory lock
_CONNECT_SECONDS = 10
_IDLE_SECONDS = 5  # a transaction that does nothing for so long belongs to a process that is gone or stopped


def postgresql_engine(url: str, busy_seconds: float) -> Engine:
    """The engine of a database.

    Parameters
    ----------
    url : `postgresql://name:password@host/database`, with libpq's parameters where wanted (`sslmode`).
    busy_seconds : how long a transaction waits for that of another process.

    Raises
    ------
    StoreError
        The URL is none. A server that is not there is told by the first connection.
    """
    try:
        address = make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):  # whose message holds the password
        raise StoreError(
            "database_url is no address of a PostgreSQL database: postgresql://name:password@host/database"
        ) from None
    if "target_session_attrs" not in address.query:  # of several servers the one that takes writes
        address = address.update_query_dict({"target_session_attrs": "read-write"})
    engine = create_engine(
        address,
        pool_pre_ping=True,  # after a restart of the server no connection of before is used
        hide_parameters=True,  # an error message holds no value of a row
        connect_args={"connect_timeout": _CONNECT_SECONDS, "application_name": "busmap"},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            for setting in (
                "synchronous_commit = on",
                # Else a writer could see the moment before it waited for the lock, where a server says so.
                "default_transaction_isolation = 'read committed'",
                f"lock_timeout = {round(busy_seconds * 1000)}",
                f"idle_in_transaction_session_timeout = {_IDLE_SECONDS * 1000}",
            ):
                cursor.execute(f"SET {setting}")
            [fsync] = cursor.execute("SELECT current_setting('fsync')").fetchone()
        connection.commit()
        if fsync != "on":
            raise StoreError(
                "the PostgreSQL server runs with fsync off, so a loss of power could take acknowledged "
                "images: set fsync = on in its configuration"
            )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("busmap_write"):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    return engine
