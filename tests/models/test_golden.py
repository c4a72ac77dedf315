"""The committed golden set is what its manifest says, and the manifest is the one that was locked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.data.record import DataError
from models.generation.manifest import differences, read_manifest, sha256_of, write_manifest

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LOCK = GOLDEN.with_suffix(".sha256")


def test_the_golden_set_is_as_it_was_locked():
    assert sha256_of(GOLDEN / "manifest.json") == LOCK.read_text(encoding="utf-8").split()[0]
    assert differences(GOLDEN) == []
    files = read_manifest(GOLDEN)["files"]
    assert len({one["study_instance_uid"] for one in files if "study_instance_uid" in one}) == 64
    assert sum(one["bytes"] for one in files) <= 10_000_000


def test_a_set_is_told_by_its_manifest(tmp_path):
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001" / "1.dcm").write_bytes(b"one")
    (tmp_path / "0001" / "1.png").write_bytes(b"outline")
    digest = write_manifest(tmp_path, {"note": "made"}, [{"path": "0001/1.dcm", "index": 4}])
    assert digest == sha256_of(tmp_path / "manifest.json")
    files = {one["path"]: one for one in read_manifest(tmp_path)["files"]}
    assert files["0001/1.dcm"]["index"] == 4
    assert files["0001/1.png"]["bytes"] == 7
    assert differences(tmp_path) == []
    (tmp_path / "0001" / "1.dcm").write_bytes(b"two")
    assert differences(tmp_path) == ["0001/1.dcm is changed"]


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="give the folder of a set"):
        differences(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="another format"):
        differences(tmp_path)
