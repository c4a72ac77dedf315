"""The nightly backup of the appliance beside a node that runs, and the restore of docs/operations.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.node.status import read_status, resend
from app.node.store.database import open_store
from app.settings import Settings
from tests.node.rig import Node, Pacs, send, ultrasound, wait_for
from tests.packaging.hosts import ROOT

SCRIPT = ROOT / "packaging" / "appliance" / "systemd" / "busmap-backup"
PROGRAM = Path(sys.executable).parent / "busmap"


def _settings_file(settings: Settings, path: Path) -> Path:
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_defaults=True)))
    return path


@pytest.mark.slow
def test_what_was_delivered_before_the_backup_can_be_sent_again_after_the_restore(tmp_path: Path) -> None:
    pacs = Pacs().start()
    node = Node(tmp_path / "state", [pacs])
    node.start()
    try:
        assert send(node.port, ultrasound("kept"), ultrasound("too")) == [0, 0]
        wait_for(lambda: len(pacs.received) == 2)
        target = tmp_path / "backup"
        environment = {**os.environ, "PROGRAM": str(PROGRAM), "STATE_FOLDER": str(node.folder)}
        settings = _settings_file(node.settings, tmp_path / "busmap.yaml")
        command = [str(SCRIPT), str(target), str(settings)]
        for _ in range(2):  # the second finds the files of the first
            answer = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
            assert answer.returncode == 0, answer.stderr
        node.stop()
        before = read_status(node.settings).studies[0]
        shutil.rmtree(node.folder)

        restored = _restore(target, node.settings, settings)
        assert read_status(restored).studies[0].study_ref == before.study_ref, "the site's key came along"
        resend(restored, before.study_instance_uid)
        node.start()
        wait_for(lambda: {len(digests) for digests in pacs.received.values()} == {2})
        assert all(len(set(digests)) == 1 for digests in pacs.received.values()), "the same bytes"
    finally:
        node.stop()
        pacs.stop()


def _restore(backup: Path, settings: Settings, file: Path) -> Settings:
    """The commands of the guide, with the paths of this test."""
    guide = (ROOT / "docs" / "operations.md").read_text()
    [block] = [one for one in re.findall(r"^```sh\n(.*?)^```", guide, re.M | re.S) if "state restore" in one]
    newest = max(backup.glob("busmap-*.sqlite"))
    script = re.sub(r"/var/backups/busmap/busmap-\w+\.sqlite", str(newest), block)
    for guided, here in (
        ("/var/backups/busmap", backup),
        ("/var/lib/busmap", settings.state_folder),
        ("/etc/busmap/busmap.yaml", file),
        ("busmap state", f"{PROGRAM} state"),
    ):
        assert guided in script
        script = script.replace(guided, str(here))
    settings.state_folder.mkdir()
    subprocess.run(["bash", "-euc", script], check=True)
    return settings


def test_a_file_that_a_cut_backup_left_half_is_made_whole(tmp_path: Path) -> None:
    state, target = tmp_path / "state", tmp_path / "backup"
    open_store(state).close()
    image = state / "images" / "ab" / "image.dcm"
    image.write_bytes(b"whole")
    settings = _settings_file(Settings(state_folder=state), tmp_path / "busmap.yaml")
    environment = {**os.environ, "PROGRAM": str(PROGRAM), "STATE_FOLDER": str(state)}
    copy = target / "images" / "ab" / "image.dcm"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"wh")
    (target / ".copying").touch()
    command = [str(SCRIPT), str(target), str(settings)]
    answer = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert answer.returncode == 0, answer.stderr
    assert copy.read_bytes() == b"whole"
    assert not (target / ".copying").exists()
