"""Two gateways and two workers apart, on a real PostgreSQL: losing any of them loses nothing.

The tests go on from one another, as an outage does: a gateway dies within a transfer, the database crashes, a
worker is removed for good, another one is stopped and wakes up. At the end the PACS has one result of each
study, each object under one UID with one digest.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from app.node.intake import OUT_OF_RESOURCES, SUCCESS
from tests.node.cluster import Cluster
from tests.node.rig import Pacs, send, ultrasound, wait_for
from tests.operators.made_files import uid
from tests.orthanc import Orthanc, running_orthanc
from tests.postgresql import Server, running_postgresql

pytestmark = [pytest.mark.crash, pytest.mark.peers]
TAKEN_OVER_SECONDS = 30.0


class House:
    """The processes, their database, two PACS, and what was acknowledged so far."""

    def __init__(self, cluster: Cluster, server: Server, pacs: Pacs, orthanc: Orthanc) -> None:
        self.cluster, self.server, self.pacs, self.orthanc = cluster, server, pacs, orthanc
        self.acknowledged: list[Dataset] = []

    def deliver(self, gateway: str, *images: Dataset) -> None:
        """Send until each image is acknowledged, as scanners do."""
        for image in images:
            wait_for(lambda image=image: send(self.cluster.port(gateway), image) == [SUCCESS])
            self.acknowledged.append(image)

    def job_of(self, study: str) -> int:
        """The newest job of a study, once there is one."""
        sql = "SELECT max(job.id) FROM job JOIN study ON study.id = study_id WHERE study_instance_uid = %s"
        return int(wait_for(lambda: self.cluster.query(sql, uid(study))[0][0]))

    def state(self, job_id: int) -> str:
        return str(self.cluster.query("SELECT state FROM job WHERE id = %s", job_id)[0][0])

    def settle(self) -> None:
        """Wait until every study is closed, every job ended and everything delivered."""
        left = (
            "SELECT 1 FROM study WHERE state = 'open' UNION ALL "
            "SELECT 1 FROM job WHERE state IN ('queued', 'running') UNION ALL "
            "SELECT 1 FROM delivery WHERE state NOT IN ('accepted', 'superseded')"
        )
        wait_for(lambda: not self.cluster.query(left))

    def check(self) -> None:
        """Nothing acknowledged is lost; each result is in each PACS once, with the bytes that are kept."""
        query = self.cluster.query
        kept = dict(query("SELECT sop_instance_uid, file_sha256 FROM instance"))
        assert set(kept) == {str(image.SOPInstanceUID) for image in self.acknowledged}
        for digest in kept.values():
            path = self.cluster.state / "images" / digest[:2] / f"{digest}.dcm"
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        assert query("SELECT count(*) FROM job WHERE state = 'failed'") == [(0,)]
        missed = (
            "SELECT count(*) FROM instance WHERE NOT EXISTS (SELECT 1 FROM job WHERE state = 'done' "
            "AND job.study_id = instance.study_id AND input_until >= instance.id)"
        )
        assert query(missed) == [(0,)]
        results = query("SELECT study_id, revision FROM job WHERE state = 'done'")
        sent = "SELECT sop_instance_uid FROM result_object JOIN delivery ON object_id = result_object.id "
        made = {row[0] for row in query(sent)}
        assert len(made) == 2 * len(set(results)) == 2 * len(results)  # a report and a capture each
        has = "WHERE delivery.state = 'accepted' AND destination = %s"
        assert {row[0] for row in query(sent + has, "pacs")} <= set(self.pacs.received) <= made
        assert all(len(set(digests)) == 1 for digests in self.pacs.received.values())
        held = [str(one.SOPInstanceUID) for one in self.orthanc.held()]
        assert {row[0] for row in query(sent + has, "orthanc")} <= set(held) <= made
        assert len(held) == len(set(held))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("cluster")
    with running_postgresql() as server, running_orthanc(folder / "orthanc") as orthanc:
        pacs = Pacs().start()
        destinations = [
            {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port},
            {
                "name": "orthanc",
                "ae_title": orthanc.ae_title,
                "host": "127.0.0.1",
                "port": orthanc.dicom_port,
            },
        ]
        cluster = Cluster(folder, server.new_database(), destinations)
        try:
            for name in ("gateway-a", "gateway-b", "worker-a", "worker-b"):
                cluster.start(name)
            for name in list(cluster.processes):
                cluster.facts(name)
            yield House(cluster, server, pacs, orthanc)
        finally:
            cluster.stop()
            pacs.stop()


def test_one_study_by_two_gateways_is_one_study(house: House) -> None:
    """Its images come by both at once, one of them by both, and end in one result."""
    images = [ultrasound(str(number), "by two") for number in range(6)]
    ways = [("gateway-a", images[:4]), ("gateway-b", images[3:])]
    with ThreadPoolExecutor() as pool:
        statuses = list(pool.map(lambda way: send(house.cluster.port(way[0]), *way[1]), ways))
    assert statuses == [[SUCCESS] * 4, [SUCCESS] * 3]
    house.acknowledged += images
    house.settle()
    counted = "SELECT count(*) FROM instance JOIN study ON study.id = study_id WHERE study_instance_uid = %s"
    assert house.cluster.query(counted, uid("by two")) == [(6,)]
    house.check()


def test_who_decodes_does_not_know_the_database(house: House) -> None:
    facts = house.cluster.facts("worker-a")
    environment = {
        pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in (facts["pid"], facts["child_pid"])
    }
    assert b"postgresql://" in environment[facts["pid"]]
    assert b"postgresql://" not in environment[facts["child_pid"]]


def test_a_gateway_that_dies_within_a_transfer_loses_nothing_acknowledged(house: House) -> None:
    house.cluster.start("gateway-c", BUSMAP_CRASH_AT="transfer-begun:3")
    images = [ultrasound(str(number), "cut") for number in range(4)]
    statuses = send(house.cluster.port("gateway-c"), *images)
    assert statuses == [SUCCESS, SUCCESS, None, None]
    assert house.cluster.ended("gateway-c") == -signal.SIGKILL
    house.acknowledged += images[:2]
    house.deliver("gateway-a", *images[2:])
    house.settle()
    house.check()


def test_a_crash_of_the_database_loses_nothing_acknowledged(house: House) -> None:
    house.server.stop(signal.SIGQUIT)
    image = ultrasound("1", "crash")
    assert send(house.cluster.port("gateway-a"), image) == [OUT_OF_RESOURCES]
    house.server.start()
    house.deliver("gateway-a", image)
    house.deliver("gateway-b", ultrasound("2", "crash"))
    house.settle()
    house.check()


def test_a_worker_removed_for_good_has_its_jobs_finished_by_the_other(house: House) -> None:
    cluster = house.cluster
    (cluster.state / "misdeed-hang").touch()  # the next analysis does not end
    house.deliver("gateway-a", ultrasound("1", "orphan"))
    job_id = house.job_of("orphan")
    wait_for(lambda: house.state(job_id) == "running" and not (cluster.state / "misdeed-hang").exists())
    victim = cluster.worker_with(job_id)
    for number in range(3):  # work that waits, for whoever is left
        house.deliver("gateway-b", ultrasound("1", f"waits {number}"))
    began = time.monotonic()
    cluster.kill(victim)
    wait_for(lambda: house.state(job_id) == "done", TAKEN_OVER_SECONDS)
    assert time.monotonic() - began < TAKEN_OVER_SECONDS
    house.settle()
    house.check()


def test_a_worker_that_was_only_stopped_counts_no_more_when_it_wakes(house: House) -> None:
    """It is replaced while it stands still; what it then ends is not committed, and it starts anew."""
    cluster = house.cluster
    os.mkfifo(cluster.state / "gate")
    (cluster.state / "misdeed-wait").touch()
    cluster.start("worker-c", BUSMAP_WORKERS__SILENCE_SECONDS="2")
    cluster.facts("worker-c")
    [other] = [name for name in ("worker-a", "worker-b") if name in cluster.processes]
    cluster.processes[other].terminate()  # an orderly end gives back its place at once
    assert cluster.ended(other) == 0
    house.deliver("gateway-a", ultrasound("1", "asleep"))
    job_id = house.job_of("asleep")
    wait_for(lambda: house.state(job_id) == "running" and not (cluster.state / "misdeed-wait").exists())
    assert cluster.worker_with(job_id) == "worker-c"
    cluster.processes["worker-c"].send_signal(signal.SIGSTOP)
    cluster.start("worker-d", BUSMAP_WORKERS__SILENCE_SECONDS="2")
    wait_for(lambda: house.state(job_id) == "done")
    house.settle()
    before = {name: list(digests) for name, digests in house.pacs.received.items()}
    opener = threading.Thread(target=lambda: (cluster.state / "gate").write_bytes(b""))
    opener.start()  # its analysis goes on, and so does it
    cluster.processes["worker-c"].send_signal(signal.SIGCONT)
    assert cluster.ended("worker-c") == 1
    opener.join()
    assert "worker-replaced" in cluster.log_path.read_text()
    assert house.pacs.received == before
    assert cluster.query("SELECT count(*) FROM worker") == [(1,)]
    house.check()


def test_the_folders_hold_nothing_of_what_was_cut(house: House) -> None:
    """Results are whole folders; the transfer that was cut is left to a later start, and is one file."""
    incoming: list[Path] = list((house.cluster.state / "incoming").iterdir())
    assert len(incoming) == 1
    for study in (house.cluster.state / "results").iterdir():
        assert all((one / "result.json").exists() for one in study.iterdir() if one.name.isdigit())
