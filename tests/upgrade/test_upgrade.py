"""From the first release to this one, in the middle of its work, also under kill; and one step back."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from app.analyse import analyse, load
from app.errors import StoreError
from app.node import process
from app.node.crash import MIGRATION_POINTS
from app.node.state import SteppedBack, downgrade, read_state, render_state
from app.node.status import resend
from app.node.store import backup
from app.node.store.database import FILE_NAME, open_as_it_is, open_store
from app.node.store.migration import schema_of
from app.node.store.schema import HEAD
from app.settings import Settings
from operators.report.composed import ReportContext
from tests.node.rig import Node, Pacs, send, ultrasound, wait_for
from tests.upgrade import frozen

_ANCIENT_HOURS = 1e6  # what the fixture has waiting is not given up for its age


@pytest.fixture
def pacs() -> Iterator[list[Pacs]]:
    both = [Pacs().start(), Pacs().start()]
    yield both
    for one in both:
        one.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return frozen.unpack(tmp_path)


def make_node(folder: Path, pacs: list[Pacs], **sections: Any) -> Node:
    return Node(folder, pacs, delivery={"retry_for_hours": _ANCIENT_HOURS}, **sections)


def schema(folder: Path) -> str:
    store = open_as_it_is(folder)
    try:
        return str(schema_of(store))
    finally:
        store.close()


def test_the_fixture_holds_every_situation(folder: Path) -> None:
    states = {study: "".join(frozen.jobs(folder, study)[-1:]) for study in frozen.STUDIES}
    assert states == {
        **dict.fromkeys(("delivered", "replaced", "quarantined", "parked"), "done"),
        **dict.fromkeys(("waiting", "stale", "sending"), "done"),
        **{"failed": "failed", "running": "running", "queued": "queued", "open": "", "idle": ""},
    }
    found = {study: {row[2] for row in frozen.deliveries(folder, study)} for study in states}
    assert (found["delivered"], found["replaced"]) == ({"accepted"}, {"accepted"})
    assert (found["waiting"], found["stale"]) == ({"queued"}, {"queued"})
    assert (found["parked"], found["sending"]) == ({"accepted", "parked"}, {"queued", "sending"})
    assert frozen.query(folder, "SELECT count(*) FROM instance WHERE kind = 'quarantine'") == [(1,)]
    assert frozen.result(folder, "running").is_dir()
    assert len(list((folder / "incoming").iterdir())) == 1
    assert schema(folder) == "0001"


def test_the_work_of_the_first_release_is_finished(folder: Path, pacs: list[Pacs]) -> None:
    """With the real analysis: old results arrive as composed, new ones as this release makes them."""
    as_composed = {row[3] for row in _rows_of(folder, "waiting", "stale", "sending", "parked")}
    written = _facts(folder, "running", 1)
    before = frozen.contents(folder)
    node = make_node(folder, pacs)
    node.start(analyser="app.analyse")
    try:
        wait_for(lambda: frozen.settled(folder))
        assert frozen.contents(folder, "backups/busmap-0001.sqlite") == before
        assert [row[2] for row in frozen.deliveries(folder, "parked")].count("parked") == 1
        assert {row[2] for row in frozen.deliveries(folder, "stale") if row[0] == 1} == {"superseded"}
        resend(node.settings, frozen.STUDIES["parked"])
        assert send(node.port, ultrasound("late", "delivered")) == [0]
        wait_for(lambda: frozen.jobs(folder, "delivered") == ["done", "done"])
        wait_for(lambda: frozen.settled(folder))
    finally:
        node.stop()
    frozen.check_nothing_lost(folder, pacs)
    assert as_composed & set(pacs[1].received)
    sent = {row[3] for row in frozen.deliveries(folder, "running")}
    assert sent == {one["sop_instance_uid"] for one in written["objects"]} <= set(pacs[0].received)
    # A late image: this release replaces what the first one delivered, and says so.
    late, first = _facts(folder, "delivered", 2), _facts(folder, "delivered", 1)
    assert (late["result_number"], late["replaces"]) == (2, 1)
    assert late["models"] != first["models"]
    report = dcmread(frozen.result(folder, "delivered", 2) / late["objects"][0]["file"])
    [predecessor] = report.PredecessorDocumentsSequence
    named = predecessor.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == first["objects"][0]["sop_instance_uid"]
    assert frozen.deliveries(folder, "delivered")[0][3] == named
    for study in ("queued", "open"):
        assert {row[3] for row in frozen.deliveries(folder, study)} == _would_have(node, study)


def _facts(folder: Path, study: str, revision: int) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((frozen.result(folder, study, revision) / "result.json").read_text())
    return facts


def _rows_of(folder: Path, *studies: str) -> list[tuple[int, str, str, str]]:
    return [row for study in studies for row in frozen.deliveries(folder, study)]


def _would_have(node: Node, study: str) -> set[str]:
    """The UIDs that this release gives the result of a study that it has had from the start."""
    sql = (
        "SELECT file_sha256 FROM instance JOIN study ON study.id = study_id WHERE study_instance_uid = ? "
        "ORDER BY instance.id"
    )
    digests = [row[0] for row in frozen.query(node.folder, sql, frozen.STUDIES[study])]
    target = node.folder.parent / f"again-{study}"
    analyse(
        [node.folder / "images" / digest[:2] / f"{digest}.dcm" for digest in digests],
        target,
        engines=load(node.settings),
        settings=node.settings,
        context=ReportContext(composed_at=datetime(2026, 1, 1).astimezone()),
    )
    facts = json.loads((target / "result.json").read_text())
    assert _facts(node.folder, study, 1)["models"] == facts["models"]
    return {one["sop_instance_uid"] for one in facts["objects"]}


@pytest.mark.crash
def test_killed_while_migrating_and_while_it_catches_up(folder: Path, pacs: list[Pacs]) -> None:
    _kill_through_an_upgrade(folder, pacs, random.Random(11), kills=4)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(10))
def test_killed_more_often(folder: Path, pacs: list[Pacs], seed: int) -> None:
    _kill_through_an_upgrade(folder, pacs, random.Random(1000 + seed), kills=15)


def _kill_through_an_upgrade(folder: Path, pacs: list[Pacs], chance: random.Random, kills: int) -> None:
    node = make_node(folder, pacs, analysis={"attempts": 10})
    try:
        for place in MIGRATION_POINTS:
            victim = chance.choice(("gateway", "worker"))
            node.start(victim, crash_at=place)
            assert node.ended(victim) == [-signal.SIGKILL]
            assert frozen.query(folder, "PRAGMA integrity_check") == [("ok",)]
            assert schema(folder) == (HEAD if place == "migration-committed" else "0001")
        pause = threading.Event()
        for index in range(kills):
            node.complete()
            victims = (("gateway",), ("worker",), ("gateway", "worker"))[index % 3]
            for name in victims:
                wait_for(lambda name=name: node.runtime(name))
            pause.wait(chance.uniform(0, 1.5))
            node.kill(*victims)
        node.complete()
        wait_for(lambda: frozen.settled(folder))
    finally:
        node.stop()
    frozen.check_nothing_lost(folder, pacs)
    assert not list((folder / "backups").glob(".copy-*"))


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(40))
def test_killed_at_any_moment_of_a_start(folder: Path, pacs: list[Pacs], seed: int) -> None:
    """Without named places: a clock kills the first start, wherever it got to."""
    chance = random.Random(seed)
    node = make_node(folder, pacs, analysis={"attempts": 10})
    try:
        for _ in range(3):
            node.start("worker")
            threading.Event().wait(chance.uniform(0.2, 2.5))
            node.kill("worker")
            assert schema(folder) in ("0001", HEAD)
            assert frozen.query(folder, "PRAGMA integrity_check") == [("ok",)]
        node.complete()
        wait_for(lambda: frozen.settled(folder))
    finally:
        node.stop()
    frozen.check_nothing_lost(folder, pacs)


def test_step_back_gives_the_schema_of_the_first_release_with_all_rows(folder: Path) -> None:
    before, was = frozen.tables(folder), frozen.contents(folder)
    settings = Settings(state_folder=folder)
    open_store(folder).close()
    assert schema(folder) == HEAD
    kept = folder / "backups" / f"busmap-{HEAD}.sqlite"
    assert downgrade(settings, None) == SteppedBack("0001", "busmap 0.1.0", kept)
    assert frozen.tables(folder) == before
    now = frozen.contents(folder)
    let_go = {row[0] for row in now["delivery"] if row[3] == "parked"}
    assert {name: rows for name, rows in now.items() if name != "delivery"} == {
        name: rows for name, rows in was.items() if name != "delivery"
    }
    assert [row for row in now["delivery"] if row[0] not in let_go] == [
        row for row in was["delivery"] if row[0] not in let_go
    ]
    # Parked: the one that the PACS refused, and the stale result that no release may send.
    stale = {row[3] for row in frozen.deliveries(folder, "stale") if row[0] == 1 and row[2] == "parked"}
    assert len(let_go) == 1 + 2 * len(stale) > 1
    assert {path.name for path in folder.glob(f"{FILE_NAME}*")} == {FILE_NAME}
    assert not list(folder.glob("dbos.sqlite*"))
    open_store(folder).close()  # and forward again
    assert {row[2] for row in frozen.deliveries(folder, "stale") if row[0] == 1} == {"superseded"}


@pytest.mark.crash
@pytest.mark.parametrize("place", ["downgrade-within-transaction", "downgrade-committed"])
def test_step_back_killed_and_run_again(place: str, folder: Path) -> None:
    before = frozen.tables(folder)
    open_store(folder).close()
    assert run_verb(folder, "downgrade", crash_at=place).returncode == -signal.SIGKILL
    assert schema(folder) == ("0001" if place == "downgrade-committed" else HEAD)
    done = run_verb(folder, "downgrade", "--to", "0001")
    assert done.returncode == 0, done.stderr
    assert "start busmap 0.1.0" in done.stdout
    assert (schema(folder), frozen.tables(folder)) == ("0001", before)


def run_verb(folder: Path, *words: str, crash_at: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BUSMAP_STATE_FOLDER": str(folder)}
    environment.pop("BUSMAP_CONFIG", None)
    if crash_at:
        environment["BUSMAP_CRASH_AT"] = crash_at
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "state", *words],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_newer_database_is_refused_with_its_release_and_the_way_back(folder: Path) -> None:
    store = open_store(folder)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
        connection.exec_driver_sql(
            "INSERT INTO schema_change (came_from, schema, release, changed_at) "
            f"VALUES ('{HEAD}', '0999', '9.8.7', 1.8e9)"
        )
    store.close()
    with pytest.raises(StoreError, match=rf"busmap 9\.8\.7.*busmap state downgrade --to {HEAD}"):
        open_store(folder)
    assert "to 0999 by busmap 9.8.7" in render_state(read_state(Settings(state_folder=folder)))
    refused = run_verb(folder, "downgrade", "--to", "0001")
    assert refused.returncode == StoreError.exit_status
    assert "9.8.7" in refused.stderr


def test_no_change_of_schema_beside_a_node_that_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LOCK_SECONDS", 0.2)
    lock = process.hold_lock(folder, "worker", threading.Event())
    try:
        with pytest.raises(StoreError, match="a node still runs"):
            open_store(folder)
    finally:
        os.close(lock)
    assert schema(folder) == "0001"


def test_no_room_for_the_copy_is_told_before_anything_is_changed(folder: Path) -> None:
    database = folder / FILE_NAME
    with (folder / f"{FILE_NAME}-wal").open("wb") as log:
        log.truncate(1 << 43)  # holds nothing, claims 8 TiB
    with pytest.raises(StoreError, match="free disk space"):
        backup.back_up(database, folder / "backups" / "copy.sqlite")
    assert not list((folder / "backups").iterdir())


def test_damaged_database_is_not_copied(folder: Path, tmp_path: Path) -> None:
    database = folder / FILE_NAME
    content = bytearray(database.read_bytes())
    content[8192:16384] = bytes(8192)
    database.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        backup.back_up(database, tmp_path / "copy.sqlite")
    assert not (tmp_path / "copy.sqlite").exists()


def test_backup_beside_a_node_at_work(folder: Path, tmp_path: Path) -> None:
    store = open_store(folder)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE study SET first_received_at = 7")
    done = run_verb(folder, "backup", str(tmp_path / "copy.sqlite"))
    assert done.returncode == 0, done.stderr
    store.close()
    assert frozen.query(tmp_path, "SELECT DISTINCT first_received_at FROM study", file="copy.sqlite") == [
        (7,)
    ]
    assert run_verb(folder, "backup", str(tmp_path / "copy.sqlite")).returncode == StoreError.exit_status


def test_results_carry_names_of_patients_as_they_came(folder: Path) -> None:
    """The fixture holds invented patients only."""
    names = {str(dcmread(path).PatientName) for path in (folder / "images").glob("*/*.dcm")}
    assert names == {"TEST^PHANTOM"}
