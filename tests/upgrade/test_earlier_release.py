"""The real code of the first release: it goes on where this one stepped back, and runs beside it.

Its tree is taken from the history of the repository; without it (a shallow clone, an archive) these skip.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from app.compare import compare
from app.demo.studies import SAMPLES
from app.node.state import downgrade
from tests.node.rig import Node, Pacs, send, ultrasound, wait_for
from tests.operators.made_files import image, region, uid, with_regions
from tests.upgrade import frozen
from tests.upgrade.test_upgrade import make_node

FIRST_COMMIT = "6919141"
_HERE = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first release's tree."""
    made = subprocess.run(
        ["git", "-C", str(_HERE), "archive", FIRST_COMMIT], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"the history here does not hold {FIRST_COMMIT}")
    folder = tmp_path_factory.mktemp("first")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


# Run in that tree: its settings by section, and those of a destination.
_KEYS = """
import json
from app.settings import DestinationSettings, Settings
sections = {
    name: list(getattr(one.annotation, "model_fields", {})) for name, one in Settings.model_fields.items()
}
print(json.dumps([sections, list(DestinationSettings.model_fields)]))
"""


class EarlierNode(Node):
    """A node of another tree, given the settings that its release knows."""

    def __init__(self, tree: Path, folder: Path, pacs: list[Pacs], **sections: Any) -> None:
        super().__init__(folder, pacs, delivery={"retry_for_hours": 1e6}, **sections)
        self.tree = tree

    def settings_line(self) -> bytes:
        keys = subprocess.run(
            [sys.executable, "-c", _KEYS],
            cwd=self.tree,
            env={"PYTHONPATH": str(self.tree)},
            capture_output=True,
            check=True,
        ).stdout
        sections, of_destination = json.loads(keys)
        given = self.settings.model_dump(mode="json")
        known = {
            name: {key: given[name][key] for key in inner} if inner else given[name]
            for name, inner in sections.items()
        }
        known["delivery"]["destinations"] = [
            {key: one[key] for key in of_destination} for one in known["delivery"]["destinations"]
        ]
        return json.dumps(known).encode() + b"\n"


@pytest.fixture
def pacs() -> Any:
    both = [Pacs().start(), Pacs().start()]
    yield both
    for one in both:
        one.stop()


def picture(sample: str) -> Dataset:
    """A sample of the demo (NOTICE) as a study of one image."""
    with Image.open(SAMPLES / sample) as opened:
        pixels = np.asarray(opened.convert("L"))
    made = image(pixels, name=sample, study=sample)
    return with_regions(made, region(0, 0, pixels.shape[1] - 1, pixels.shape[0] - 1))


def test_first_release_goes_on_after_the_step_back(tree: Path, tmp_path: Path, pacs: list[Pacs]) -> None:
    """Killed in its catching up, stepped back, and finished by the release before, with a study more."""
    folder = frozen.unpack(tmp_path)
    node = make_node(folder, pacs, analysis={"attempts": 10})
    node.start()
    assert send(node.port, ultrasound("1", "came to the new release")) == [0]
    wait_for(lambda: pacs[0].received)
    node.kill("gateway", "worker")
    assert downgrade(node.settings, None).schema == "0001"
    earlier = EarlierNode(tree, folder, pacs, analysis={"attempts": 10})
    earlier.start()
    try:
        wait_for(lambda: frozen.settled(folder))
        assert frozen.query(folder, "SELECT version_num FROM alembic_version") == [("0001",)]
    finally:
        earlier.stop()
    frozen.check_nothing_lost(folder, pacs)
    sql = "SELECT job.state FROM job JOIN study ON study.id = study_id WHERE study_instance_uid = ?"
    assert frozen.query(folder, sql, uid("came to the new release")) == [("done",)]


def test_first_release_refuses_what_this_one_upgraded(tree: Path, tmp_path: Path, pacs: list[Pacs]) -> None:
    folder = frozen.unpack(tmp_path)
    node = make_node(folder, pacs)
    node.start("worker")
    wait_for(lambda: node.runtime("worker"))
    node.stop()
    earlier = EarlierNode(tree, folder, pacs)
    earlier.start("gateway")
    assert earlier.ended("gateway") == [6]
    [refusal] = [line for line in earlier.log_lines() if line["event"] == "gateway-cannot-start"]
    assert "newer busmap" in refusal["remedy"]


def test_this_release_in_the_shadow_of_the_first(tree: Path, tmp_path: Path, pacs: list[Pacs]) -> None:
    """Real analyses of both releases on the same pictures; the shadow's node sends nothing."""
    live = EarlierNode(tree, tmp_path / "live", pacs[:1])
    shadow = Node(tmp_path / "shadow", pacs[:1], delivery={"shadow": True})
    for node in (live, shadow):
        node.start(analyser="app.analyse")
    try:
        for name in ("bus_0005-l.png", "bus_0002-l.png"):
            for node in (live, shadow):
                assert send(node.port, picture(name)) == [0]
        for node in (live, shadow):
            wait_for(
                lambda node=node: (
                    frozen.query(node.folder, "SELECT count(*) FROM job WHERE state = 'done'") == [(2,)]
                )
            )
        wait_for(lambda: frozen.settled(live.folder))
    finally:
        live.stop()
        shadow.stop()
    found = compare(live.folder, shadow.folder, tolerance=0.001)
    assert len(found) == 2
    assert all(one.old and one.new and len(one.old.categories) == 1 for one in found)
    made = {row[0] for row in frozen.query(live.folder, "SELECT sop_instance_uid FROM result_object")}
    assert set(pacs[0].received) == made
