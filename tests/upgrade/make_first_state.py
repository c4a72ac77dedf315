"""Make the state folder that release 0.1.0 left in the middle of its work, with the code of that release.

Run in the tree of that release, whose `tests.node.rig` it uses: see first/README.md.

    python make_first_state.py OUT

writes OUT/state.tar.xz, the folder as a kill of all processes left it, and OUT/facts.json: the images that
were acknowledged, in the order sent, the Study Instance UID of each situation, and what each PACS has.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset

from app.demo.studies import SAMPLES
from app.node.store.database import FILE_NAME
from tests.node.rig import Node, Pacs, associate, free_port, report, send, wait_for
from tests.operators.made_files import image, region, speckle, uid, with_regions

SR = "1.2.840.10008.5.1.4.1.1.88.34"
_PAUSE_SECONDS = 1000.0  # what waits in the fixture was tried once and not again while it was made


class HoldingPacs(Pacs):
    """A PACS that answers no store request before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.asked, self.let_go = False, threading.Event(), threading.Event()

    def _store(self, event: Any) -> int:
        if self.held:
            self.asked.set()
            self.let_go.wait()
            return 0xA700
        return super()._store(event)


def picture(sample: str, study: str) -> Dataset:
    """A sample of the demo (NOTICE), at half its size, as an image of a study."""
    with Image.open(SAMPLES / sample) as opened:
        grey = opened.convert("L")
        pixels = np.asarray(grey.resize((grey.width // 2, grey.height // 2)))
    made = image(pixels, name=f"{study}/{sample}", study=study)
    return with_regions(made, region(0, 0, pixels.shape[1] - 1, pixels.shape[0] - 1))


def phantom(name: str, study: str, **more: Any) -> Dataset:
    """Speckle, 48 pixels wide; the same name is the same image."""
    seed = int.from_bytes(name.encode(), "big") % 2**32
    return image(speckle(48, 48, seed), name=f"{study}/{name}", study=study, **more)


class Making:
    """The node under way, and what was acknowledged so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pacs = [HoldingPacs(), Pacs(free_port())]
        self.images: list[dict[str, str]] = []
        self.node = self._node(0.2)

    def _node(self, retry_seconds: float) -> Node:
        return Node(
            self.folder,
            self.pacs,
            delivery={"retry_minimum_seconds": retry_seconds, "retry_maximum_seconds": _PAUSE_SECONDS},
        )

    def send(self, study: str, *objects: Dataset) -> None:
        assert send(self.node.port, *objects) == [0] * len(objects)
        for one in objects:
            found = {"study": study, "sop_instance_uid": str(one.SOPInstanceUID)}
            self.images.append({**found, "sop_class_uid": str(one.SOPClassUID)})

    def rows(self, sql: str, *values: Any) -> list[Any]:
        with sqlite3.connect(f"file:{self.folder / FILE_NAME}?mode=ro", uri=True, timeout=30) as connection:
            return connection.execute(sql, values).fetchall()

    def deliveries(self, study: str, state: str) -> int:
        sql = (
            "SELECT count(*) FROM delivery JOIN result_object ON result_object.id = object_id "
            "JOIN job ON job.id = job_id JOIN study ON study.id = study_id "
            "WHERE study_instance_uid = ? AND delivery.state = ?"
        )
        return int(self.rows(sql, uid(study), state)[0][0])

    def job(self, study: str, revision: int = 1) -> str:
        sql = (
            "SELECT job.state FROM job JOIN study ON study.id = study_id "
            "WHERE study_instance_uid = ? AND revision = ?"
        )
        found = self.rows(sql, uid(study), revision)
        return str(found[0][0]) if found else ""

    def delivered(self, study: str, count: int) -> None:
        wait_for(lambda: self.deliveries(study, "accepted") == count)

    def tried(self, study: str, count: int) -> None:
        """Wait until deliveries of a study were tried in vain."""
        sql = (
            "SELECT count(*) FROM delivery JOIN result_object ON result_object.id = object_id "
            "JOIN job ON job.id = job_id JOIN study ON study.id = study_id "
            "WHERE study_instance_uid = ? AND delivery.attempts > 0 AND delivery.state = 'queued'"
        )
        wait_for(lambda: int(self.rows(sql, uid(study))[0][0]) == count)

    def make(self) -> None:
        self._settled()
        self._waiting()
        self._killed_at_work()
        self._incomplete()

    def _settled(self) -> None:
        """With both PACS up: delivered, replaced, quarantined, failed, idle, parked."""
        for one in self.pacs:
            one.start()
        self.node.start(analyser="app.analyse")
        self.send("delivered", picture("bus_0005-l.png", "delivered"))
        self.send("replaced", phantom("1", "replaced"))
        self.send("quarantined", phantom("1", "quarantined"))
        self.send("failed", phantom("1", "failed"), phantom("2", "failed", PatientID="P2"))
        self.send("idle", report("1", "idle"))
        self.delivered("delivered", self._objects("delivered"))
        for study in ("replaced", "quarantined"):
            self.delivered(study, self._objects(study))
        wait_for(lambda: self.job("failed") == "failed")
        self.send("replaced", phantom("2", "replaced"))
        wait_for(lambda: self.job("replaced", 2) == "done")
        self.delivered("replaced", self._objects("replaced"))
        self.send("quarantined", phantom("1", "quarantined", PatientComments="other bytes"))
        self.pacs[0].answers[SR] = 0xC000
        self.send("parked", phantom("1", "parked"))
        wait_for(lambda: self.deliveries("parked", "parked") == 1)
        self.delivered("parked", self._objects("parked") - 1)
        del self.pacs[0].answers[SR]
        self.node.stop()

    def _objects(self, study: str) -> int:
        """How many deliveries a study's results so far come to; waits for one."""
        sql = (
            "SELECT count(*) FROM result_object JOIN job ON job.id = job_id "
            "JOIN study ON study.id = study_id WHERE study_instance_uid = ?"
        )
        wait_for(lambda: self.rows(sql, uid(study))[0][0])
        return 2 * int(self.rows(sql, uid(study))[0][0])

    def _waiting(self) -> None:
        """With both PACS down: analysed and waiting; a newer result waiting behind an older one."""
        for one in self.pacs:
            one.stop()
        self.node = self._node(_PAUSE_SECONDS)
        self.node.start(analyser="app.analyse")
        self.send("waiting", phantom("1", "waiting"))
        self.send("stale", phantom("1", "stale"))
        wait_for(lambda: self.job("waiting") == self.job("stale") == "done")
        self.send("stale", phantom("2", "stale"))
        wait_for(lambda: self.job("stale", 2) == "done")
        for study in ("waiting", "stale"):
            self.tried(study, self._objects(study))
        self.node.stop()

    def _killed_at_work(self) -> None:
        """Killed while one study is on its way, one is written and not committed, and one is next."""
        self.pacs[0].held = True
        self.pacs[0].start()
        self.node = self._node(_PAUSE_SECONDS)
        self.node.start("gateway", analyser="app.analyse")
        self.node.start("worker", analyser="app.analyse", crash_at="analysis-written:2")
        self.send("sending", phantom("1", "sending"))
        self.pacs[0].asked.wait()
        self.tried("sending", self._objects("sending") // 2)
        self.send("running", picture("bus_0005-r.png", "running"))
        self.send("queued", picture("bus_0002-l.png", "queued"))
        self.node.ended("worker")
        self.pacs[0].let_go.set()
        self.pacs[0].stop()
        assert (self.job("running"), self.job("queued")) == ("running", "queued")
        assert self.deliveries("sending", "sending") == self._objects("sending") // 2

    def _incomplete(self) -> None:
        """Images of a study that is not complete, and a transfer that a kill cut."""
        self.send("open", phantom("1", "open"), phantom("2", "open"))
        self.node.kill("gateway")
        self.node.start("gateway", crash_at="image-received")
        cut = phantom("3", "open")
        association = associate(self.node.port, [cut])
        association.send_c_store(cut)
        self.node.ended("gateway")


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        making = Making(Path(scratch) / "state")
        making.make()
        studies = dict.fromkeys(one["study"] for one in making.images)
        facts = {
            "studies": {name: uid(name) for name in studies},
            "images": making.images,
            "pacs": [one.received for one in making.pacs],
        }
        target.mkdir(parents=True, exist_ok=True)
        (target / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
        with tarfile.open(target / "state.tar.xz", "w:xz", preset=9) as archive:
            archive.add(making.folder, "state", filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A member without its owner; empty image folders are made again at each start."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main(Path(sys.argv[1]))
