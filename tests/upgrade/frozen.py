"""The state folder that the first release left in the middle of its work: see first/README.md."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

from pydicom import dcmread

from app.node.store.database import FILE_NAME
from tests.node.rig import Pacs

FIRST = Path(__file__).parent / "first"
FACTS: dict[str, Any] = json.loads((FIRST / "facts.json").read_text())
STUDIES: dict[str, str] = FACTS["studies"]
TABLES = ("study", "instance", "warning", "job", "result_object", "delivery")


def unpack(target: Path) -> Path:
    """The state folder, unpacked below `target`."""
    with tarfile.open(FIRST / "state.tar.xz") as archive:
        archive.extractall(target, filter="data")
    return target / "state"


def query(folder: Path, sql: str, *values: Any, file: str = FILE_NAME) -> list[Any]:
    """Rows of a state folder's database, read beside whoever writes."""
    connection = sqlite3.connect(f"file:{folder / file}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def tables(folder: Path, file: str = FILE_NAME) -> dict[str, str]:
    """Every table and index by name with its statement, blanks made alike."""
    rows = query(folder, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL", file=file)
    return {name: " ".join(sql.split()) for name, sql in rows}


def contents(folder: Path, file: str = FILE_NAME) -> dict[str, list[Any]]:
    """All rows of all tables that the first release knows, in its columns."""
    return {
        name: query(folder, f"SELECT {_columns(name)} FROM {name} ORDER BY id", file=file) for name in TABLES
    }


_COLUMNS = {"delivery": "id, object_id, destination, state, attempts, queued_at, status, accepted_at"}


def _columns(table: str) -> str:
    return _COLUMNS.get(table, "*")


def jobs(folder: Path, study: str) -> list[str]:
    """The states of a study's jobs, by revision."""
    sql = (
        "SELECT job.state FROM job JOIN study ON study.id = study_id WHERE study_instance_uid = ? "
        "ORDER BY revision"
    )
    return [row[0] for row in query(folder, sql, STUDIES[study])]


def deliveries(folder: Path, study: str) -> list[tuple[int, str, str, str]]:
    """A study's deliveries: revision, destination, state and SOP Instance UID."""
    sql = (
        "SELECT revision, destination, delivery.state, sop_instance_uid FROM delivery "
        "JOIN result_object ON result_object.id = object_id JOIN job ON job.id = job_id "
        "JOIN study ON study.id = study_id WHERE study_instance_uid = ? ORDER BY delivery.id"
    )
    return query(folder, sql, STUDIES[study])


def result(folder: Path, study: str, revision: int = 1) -> Path:
    """Where a result of a study is kept."""
    return folder / "results" / hashlib.sha256(STUDIES[study].encode()).hexdigest() / str(revision)


def settled(folder: Path) -> bool:
    """Whether nothing waits any more but what is parked."""
    try:
        return not (
            query(folder, "SELECT 1 FROM study WHERE state = 'open'")
            + query(folder, "SELECT 1 FROM job WHERE state IN ('queued', 'running')")
            + query(folder, "SELECT 1 FROM delivery WHERE state IN ('queued', 'sending')")
        )
    except sqlite3.OperationalError:
        return False


def check_nothing_lost(folder: Path, pacs: list[Pacs]) -> None:
    """What was acknowledged is kept and analysed; each PACS has each object once, with one digest."""
    assert query(folder, "PRAGMA integrity_check") == [("ok",)]
    _images_are_kept(folder)
    assert [study for study in STUDIES if "failed" in jobs(folder, study)] == ["failed"]
    for study in set(STUDIES) - {"failed", "idle"}:
        assert jobs(folder, study)[-1] == "done", study
    for index, one in enumerate(pacs):
        _each_object_once(folder, f"pacs{index}", FACTS["pacs"][index], one.received)


def _images_are_kept(folder: Path) -> None:
    kept = dict(query(folder, "SELECT id, sop_instance_uid FROM instance"))
    sent = [one["sop_instance_uid"] for one in FACTS["images"]]
    assert sorted(kept.values()) == sorted([*sent, *(set(kept.values()) - set(sent))])
    for digest, uid in query(folder, "SELECT file_sha256, sop_instance_uid FROM instance"):
        path = folder / "images" / digest[:2] / f"{digest}.dcm"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        assert str(dcmread(path).SOPInstanceUID) == uid


def _each_object_once(
    folder: Path, destination: str, before: dict[str, list[str]], since: dict[str, list[str]]
) -> None:
    rows = query(
        folder,
        "SELECT sop_instance_uid, delivery.state FROM delivery "
        "JOIN result_object ON result_object.id = object_id WHERE destination = ?",
        destination,
    )
    states = dict(rows)
    assert len(states) == len(rows)
    accepted = {uid for uid, state in rows if state == "accepted"}
    assert accepted <= set(before) | set(since) <= set(states)
    for uid in states:
        assert len({*before.get(uid, []), *since.get(uid, [])}) <= 1, "other bytes under one UID"
    stale = {uid for uid, state in rows if state == "superseded"}
    assert not stale & set(since), "what a newer result replaces was sent"
