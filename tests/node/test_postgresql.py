"""What the store asks of a PostgreSQL server, and what it tells of one that will not do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.errors import StoreError
from app.node.store.database import open_store
from app.node.store.workers import register, worker_lines
from tests.node.test_store import StudyLife
from tests.postgresql import Server
from tests.waiting import wait_until

pytestmark = pytest.mark.peers


def test_a_study_under_any_order_of_events(postgresql: Server) -> None:
    """As tests/node/test_store.py has it on SQLite."""
    run_state_machine_as_test(
        lambda: StudyLife(postgresql.new_database()),
        settings=settings(max_examples=4, stateful_step_count=15, deadline=None),
    )


def test_processes_that_start_together_make_the_tables_once(tmp_path: Path, postgresql: Server) -> None:
    url, failed = postgresql.new_database(), []

    def start() -> None:
        try:
            open_store(tmp_path, url).close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []


def test_a_transaction_that_stands_still_gives_way(tmp_path: Path, postgresql: Server) -> None:
    url = postgresql.new_database()
    stopped, works = open_store(tmp_path, url), open_store(tmp_path, url)

    def stand_still() -> None:
        with stopped.write() as connection:
            connection.execute(text("INSERT INTO worker (name, seen_at) VALUES ('stopped', 0)"))
            register(works, "works", 0)  # waits until the server ends the other's session
            connection.execute(text("SELECT 1"))

    with pytest.raises(SQLAlchemyError):
        stand_still()
    assert [one.name for one in worker_lines(works)] == ["works"]
    assert register(stopped, "again", 0)  # a new connection
    stopped.close()
    works.close()


def test_a_writer_sees_what_it_waited_for(tmp_path: Path, postgresql: Server) -> None:
    """Also where the server's default shows a transaction the moment that it began to wait."""
    url = postgresql.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    first, second = open_store(tmp_path, url), open_store(tmp_path, url)
    seen = []

    def look() -> None:
        with second.write() as connection:
            seen.append(connection.execute(text("SELECT count(*) FROM worker")).scalar())

    waits = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    looking = threading.Thread(target=look)
    with first.write() as writing:
        looking.start()
        wait_until(lambda: writing.execute(waits).scalar() == 1, "the other to wait")
        writing.execute(text("INSERT INTO worker (name, seen_at) VALUES ('first', 0)"))
    looking.join()
    assert seen == [1]
    first.close()
    second.close()


@pytest.fixture
def careless(postgresql: Server) -> Iterator[str]:
    """A server that does not write through, while the test runs."""

    def configure(value: str) -> None:
        with psycopg.connect(postgresql.url("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET fsync = {value}")
            connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: _fsync(postgresql) == value, f"fsync {value}")

    url = postgresql.new_database()
    configure("off")
    yield url
    configure("on")


def _fsync(server: Server) -> str:
    with psycopg.connect(server.url("postgres")) as connection:
        [value] = connection.execute("SHOW fsync").fetchone() or [""]
        return str(value)


def test_a_server_that_does_not_write_through_is_refused(tmp_path: Path, careless: str) -> None:
    with pytest.raises(StoreError, match="fsync"):
        open_store(tmp_path, careless)


@pytest.mark.parametrize(
    "url",
    ["postgresql://busmap:secret@127.0.0.1:1/busmap", "postgresql://busmap:secret@host:port/busmap"],
    ids=["nobody there", "no address"],
)
def test_an_address_that_does_not_do_is_said_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreError, match="database_url") as caught:
        open_store(tmp_path, url)
    assert "secret" not in str(caught.value)
