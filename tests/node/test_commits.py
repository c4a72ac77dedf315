"""Instances that wait together are committed together, and trouble with one costs no other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from app.node.commits import Commits
from app.node.store.database import FILE_NAME, Store, open_store, sqlite
from app.node.store.images import Outcome, ReceivedInstance
from tests.waiting import wait_until


def instance(name: str, **more: str) -> ReceivedInstance:
    values = {"study_instance_uid": "1.2", "sop_instance_uid": f"1.2.{name}", "content_sha256": name, **more}
    return ReceivedInstance(
        study_ref="ref",
        series_instance_uid="1.2.9",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.6.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        file_sha256=name,
        size_bytes=1,
        is_image=True,
        received_at=1.0,
        **values,
    )


def kept(store: Store) -> list[str]:
    with store.read() as connection:
        return [row[0] for row in connection.execute(text("SELECT content_sha256 FROM instance ORDER BY 1"))]


def keep_at_once(
    store: Store, instances: list[ReceivedInstance], meanwhile: Callable[[], object] = lambda: None
) -> dict[str, Outcome | Exception]:
    """All wait behind a first commit that waits for a writer elsewhere; `meanwhile`, before it goes on."""
    commits, results = Commits(store), dict[str, Outcome | Exception]()

    def keep(one: ReceivedInstance) -> None:
        try:
            results[one.content_sha256] = commits.keep(one)
        except Exception as error:
            results[one.content_sha256] = error

    threads = [threading.Thread(target=keep, args=(one,)) for one in instances]
    with store.write() as writing:
        threads[0].start()
        wait_until(lambda: commits._committing.locked() and not commits._queue, "the first commit")
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: len(commits._queue) == len(instances) - 1, "all to queue")
        writing.rollback()  # a file locked by hand below would wait for this
        meanwhile()
    for thread in threads:
        thread.join()
    return results


def test_all_that_wait_are_kept_with_their_own_outcomes(tmp_path: Path, database_url: str) -> None:
    store = open_store(tmp_path, database_url)
    results = keep_at_once(
        store,
        [instance("1"), instance("2"), instance("3"), instance("other", sop_instance_uid="1.2.1")],
    )
    assert results == {
        "1": Outcome.NEW,
        "2": Outcome.NEW,
        "3": Outcome.NEW,
        "other": Outcome.QUARANTINE,
    }
    assert kept(store) == ["1", "2", "3", "other"]
    store.close()


def test_trouble_with_one_costs_no_other(tmp_path: Path, database_url: str) -> None:
    store = open_store(tmp_path, database_url)
    faulty: dict[str, None] = {"study_instance_uid": None}  # no row without a study
    results = keep_at_once(store, [instance("1"), instance("2"), instance("3", **faulty)])  # type: ignore[arg-type]
    assert isinstance(results["3"], SQLAlchemyError)
    assert (results["1"], results["2"]) == (Outcome.NEW, Outcome.NEW)
    assert kept(store) == ["1", "2"]
    store.close()


def test_a_locked_database_fails_a_batch_at_once(tmp_path: Path) -> None:
    """Had each been tried alone, each would have waited, and have an error of its own."""
    store = open_store(tmp_path, busy_seconds=0.5)
    elsewhere = sqlite.connect(tmp_path / FILE_NAME, isolation_level=None)
    results = keep_at_once(
        store,
        [instance(str(number)) for number in range(6)],
        meanwhile=lambda: elsewhere.execute("BEGIN IMMEDIATE"),
    )
    assert all(isinstance(error, OperationalError) for error in results.values())
    assert len({id(error) for error in results.values()}) <= 2  # the first one's, and the batch's
    elsewhere.execute("ROLLBACK")
    assert Commits(store).keep(instance("1")) is Outcome.NEW
    elsewhere.close()
    store.close()


def test_an_error_reaches_who_waits_alone(tmp_path: Path, database_url: str) -> None:
    store = open_store(tmp_path, database_url)
    with pytest.raises(SQLAlchemyError):
        Commits(store).keep(instance("1", **{"study_instance_uid": None}))  # type: ignore[arg-type]
    store.close()
