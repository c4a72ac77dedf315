"""Files and folders that appear whole or not at all, under errors and under kills of a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.data.whole import bring_back, whole_file, whole_folder, write_whole

ROOT = Path(__file__).resolve().parents[2]
# Writes into a folder and kills itself when it is about to rename for the so manyth time.
KILLED = """
import os, signal, sys
from pathlib import Path
from models.data.whole import whole_folder
real, left = Path.rename, int(sys.argv[2])
def rename(self, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
Path.rename = rename
with whole_folder(Path(sys.argv[1])) as folder:
    for name in ("one", "other"):
        (folder / name).write_text("new")
"""


def write(folder: Path, text: str) -> None:
    with whole_folder(folder) as unfinished:
        for name in ("one", "other"):
            (unfinished / name).write_text(text)


def fill_up(writing, name: str = "") -> None:
    with writing as unfinished:
        (unfinished / name).write_text("half")
        raise OSError("the disk is full")


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_appears_once_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_whole(path, "é")
    assert path.read_bytes() == "é".encode()
    with whole_file(path) as unfinished:
        unfinished.write_bytes(b"new")
        assert path.read_bytes() == "é".encode()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_after_an_error_the_file_is_as_it_was_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(OSError, match="full"):
        fill_up(whole_file(path))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_a_folder_changes_at_once_and_keeps_what_others_laid_there(tmp_path):
    folder = tmp_path / "product"
    write(folder, "old")
    (folder / "theirs").write_text("kept")
    with pytest.raises(OSError, match="full"):
        fill_up(whole_folder(folder), "one")
    assert content(folder) == {"one": "old", "other": "old", "theirs": "kept"}
    write(folder, "new")
    assert content(folder) == {"one": "new", "other": "new", "theirs": "kept"}
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("renames", [1, 2])
def test_a_folder_survives_a_kill_in_the_exchange(tmp_path, renames):
    folder = tmp_path / "product"
    write(folder, "old")
    command = [sys.executable, "-c", KILLED, str(folder), str(renames)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert folder.exists() == (renames == 1), "the second kill comes while the folder is out of sight"
    bring_back(folder)
    assert content(folder) == {"one": "old", "other": "old"}
    write(folder, "newer")
    assert content(folder) == {"one": "newer", "other": "newer"}
    assert list(tmp_path.iterdir()) == [folder]
