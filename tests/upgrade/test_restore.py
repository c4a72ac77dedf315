"""A damaged database: a copy takes its place, and what came since is not lost."""

from __future__ import annotations

import hashlib
import random
import signal
from pathlib import Path

import pytest

from app.errors import StoreError
from app.node.state import restore
from app.node.store.database import FILE_NAME, open_store
from app.node.store.schema import HEAD
from app.settings import Settings
from tests.node.inprocess import Bench
from tests.node.rig import Pacs, ultrasound, wait_for
from tests.operators.made_files import uid
from tests.upgrade import frozen
from tests.upgrade.test_upgrade import make_node, run_verb

LATER = ("later study", "open")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A node of the first release, upgraded; images came since, then the disk failed."""
    folder = frozen.unpack(tmp_path)
    bench = Bench(folder)
    for study in LATER:
        assert bench.receive(ultrasound("since the copy", study)).status == 0
    # A second result of a study whose first one the copy knows, and the folder of its third image's result.
    later = frozen.result(folder, "waiting", 2)
    later.mkdir()
    (later / "result.json").write_text("{}")
    bench.store.close()
    database = folder / FILE_NAME
    content = bytearray(database.read_bytes())
    content[4096 : len(content) // 2] = random.Random(3).randbytes(len(content) // 2 - 4096)
    database.write_bytes(content)
    return folder


def images_of(folder: Path, study: str) -> int:
    sql = "SELECT count(*) FROM instance JOIN study ON study.id = study_id WHERE study_instance_uid = ?"
    return int(frozen.query(folder, sql, uid(study))[0][0])


def test_restore_keeps_what_came_since_the_copy(damaged: Path) -> None:
    was = hashlib.sha256((damaged / FILE_NAME).read_bytes()).hexdigest()
    with pytest.raises(StoreError, match=r"busmap state restore"):
        open_store(damaged)
    done = run_verb(damaged, "restore")
    assert done.returncode == 0, done.stderr
    assert "images kept that came since: 2" in done.stdout
    assert [images_of(damaged, study) for study in LATER] == [1, 3]
    assert frozen.query(damaged, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    [aside] = (damaged / "backups").glob("replaced-*.sqlite")
    assert hashlib.sha256(aside.read_bytes()).hexdigest() == was
    # Another input may have made it: it is made anew, and kept.
    assert not frozen.result(damaged, "waiting", 2).exists()
    assert len(list((damaged / "results-set-aside").glob("*/2/result.json"))) == 1
    # The running job of the copy is the one that wrote this: it is delivered as composed.
    assert frozen.result(damaged, "running").is_dir()


@pytest.mark.crash
@pytest.mark.parametrize("place", ["restore-before-replace", "restore-replaced"])
def test_restore_killed_and_run_again(place: str, damaged: Path) -> None:
    kept = damaged / "backups" / "busmap-0001.sqlite"
    assert run_verb(damaged, "restore", crash_at=place).returncode == -signal.SIGKILL
    # A gateway that started now would compare all images with the rows, the older ones too.
    assert not (damaged / "swept").exists()
    restore(Settings(state_folder=damaged), kept)
    assert [images_of(damaged, study) for study in LATER] == [1, 3]
    assert frozen.query(damaged, "PRAGMA integrity_check") == [("ok",)]


def test_no_copy_and_no_sound_copy_are_told(damaged: Path, tmp_path: Path) -> None:
    settings = Settings(state_folder=damaged)
    (tmp_path / "notes.txt").write_text("no database")
    for source in (tmp_path / "absent.sqlite", tmp_path / "notes.txt", damaged / FILE_NAME):
        with pytest.raises(StoreError):
            restore(settings, source)
    (damaged / "backups" / "busmap-0001.sqlite").unlink()
    with pytest.raises(StoreError, match="there is no copy in"):
        restore(settings, None)


@pytest.mark.slow
def test_pacs_has_each_object_once_after_a_restore(tmp_path: Path) -> None:
    """With the real analysis: results that are made again have the UIDs that they had."""
    folder = frozen.unpack(tmp_path)
    pacs = [Pacs().start(), Pacs().start()]
    node = make_node(folder, pacs)
    try:
        node.start(analyser="app.analyse")
        wait_for(lambda: frozen.settled(folder))
        node.kill("gateway", "worker")
        had = [set(one.received) for one in pacs]
        (folder / FILE_NAME).write_bytes(b"gone")
        for beside in folder.glob(f"{FILE_NAME}-*"):
            beside.unlink()
        done = run_verb(folder, "restore")
        assert done.returncode == 0, done.stderr
        node.start(analyser="app.analyse")
        wait_for(lambda: frozen.settled(folder))
        assert [set(one.received) for one in pacs] == had
    finally:
        node.stop()
        for one in pacs:
            one.stop()
