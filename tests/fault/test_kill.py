"""Kill -9 at every named place and at random moments: nothing acknowledged is lost, nothing is sent twice.

A scanner sends until each image is acknowledged, as scanners do. What the PACS ends up with must be one
result a revision, each object under one UID with one digest however often it was sent.
"""

from __future__ import annotations

import hashlib
import random
import re
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from app.node.crash import CRASH_POINTS, GATEWAY_POINTS, WORKER_POINTS
from app.node.store.database import FILE_NAME
from tests.node.rig import Node, Pacs, send, ultrasound, wait_for
from tests.operators.made_files import uid

pytestmark = pytest.mark.crash
House = tuple[Node, Pacs, list[Dataset]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Node, PACS and the images sent so far. Each test goes on where the one before was killed."""
    pacs = Pacs().start()
    node = Node(tmp_path_factory.mktemp("kill") / "state", [pacs], analysis={"attempts": 10})
    yield node, pacs, []
    node.stop()
    pacs.stop()


def query(node: Node, sql: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{node.folder / FILE_NAME}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def acknowledged(node: Node, image: Dataset, stop: threading.Event | None = None) -> None:
    """Send an image until it is acknowledged."""

    def done() -> bool:
        if stop is not None and stop.is_set():
            return True
        facts = node.runtime("gateway")
        return bool(facts) and send(facts["port"], image) == [0]

    wait_for(done)


def settled(node: Node) -> bool:
    """Whether every study is closed, every job ended and everything delivered."""
    try:
        left = query(node, "SELECT 1 FROM study WHERE state = 'open'")
        left += query(node, "SELECT 1 FROM job WHERE state IN ('queued', 'running')")
        left += query(node, "SELECT 1 FROM delivery WHERE state NOT IN ('accepted', 'superseded')")
        return not left and bool(query(node, "SELECT 1 FROM delivery"))
    except sqlite3.OperationalError:
        return False


def check(node: Node, pacs: Pacs, images: list[Dataset]) -> None:
    """What was acknowledged is kept and analysed, and the PACS has each object once."""
    kept = {row[0]: row[1] for row in query(node, "SELECT sop_instance_uid, file_sha256 FROM instance")}
    assert set(kept) == {str(image.SOPInstanceUID) for image in images}
    for image in images:
        digest = kept[str(image.SOPInstanceUID)]
        path = node.folder / "images" / digest[:2] / f"{digest}.dcm"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        assert dcmread(path).PixelData == image.PixelData
    assert query(node, "PRAGMA integrity_check") == [("ok",)]
    assert query(node, "SELECT count(*) FROM job WHERE state = 'failed'") == [(0,)]
    assert query(
        node,
        "SELECT min(included) FROM (SELECT max(input_until) >= max(instance.id) AS included "
        "FROM job JOIN instance USING (study_id) GROUP BY study_id)",
    ) == [(1,)]
    made = {row[0] for row in query(node, "SELECT sop_instance_uid FROM result_object")}
    # What a newer result replaced before the PACS had it does not have to arrive; all else does.
    superseded = {
        row[0]
        for row in query(
            node,
            "SELECT sop_instance_uid FROM result_object JOIN delivery ON object_id = result_object.id "
            "WHERE delivery.state = 'superseded'",
        )
    }
    assert made - superseded <= set(pacs.received) <= made
    assert len(made) == 2 * query(node, "SELECT count(*) FROM job WHERE state = 'done'")[0][0]
    assert all(len(set(digests)) == 1 for digests in pacs.received.values())
    newest = query(
        node,
        "SELECT sop_instance_uid FROM result_object WHERE job_id IN "
        "(SELECT max(id) FROM job WHERE state = 'done' GROUP BY study_id)",
    )
    assert {row[0] for row in newest} <= set(pacs.received)
    in_order(node, pacs)


def in_order(node: Node, pacs: Pacs) -> None:
    """No object of a result reached the PACS after one of a result that replaces it."""
    place = {
        row[0]: (row[1], row[2])
        for row in query(
            node,
            "SELECT sop_instance_uid, study_id, revision FROM result_object JOIN job ON job.id = job_id",
        )
    }
    newest: dict[int, int] = {}
    for one in pacs.order:
        study, revision = place[str(one.SOPInstanceUID)]
        assert revision >= newest.get(study, 0), "a stale result after the one that replaces it"
        newest[study] = revision


@pytest.mark.parametrize("place", GATEWAY_POINTS)
def test_gateway_dies_at(place: str, house: House) -> None:
    node, _, images = house
    mine = [ultrasound(f"{place}{index}", place) for index in range(3)]
    # Within a transaction the third time: the image that the place before left without a row is kept at the
    # start, in a transaction of its own.
    node.start("gateway", crash_at=f"{place}:{3 if place == 'images-within-transaction' else 2}")
    statuses = send(node.port, *mine)
    assert node.ended("gateway") == [-signal.SIGKILL]
    assert (statuses[0], statuses[2]) == (0, None)
    assert _counted(node, place) >= sum(status == 0 for status in statuses)
    images += mine


def test_gateway_recovers(house: House) -> None:
    node, _, images = house
    node.start("gateway")
    wait_for(lambda: node.runtime("gateway"))
    assert not list((node.folder / "incoming").iterdir())
    rows = query(node, "SELECT count(*) FROM instance")[0][0]
    assert len(list((node.folder / "images").glob("*/*"))) == rows  # no file without a row
    for image in images:
        acknowledged(node, image)


@pytest.mark.parametrize("place", WORKER_POINTS)
def test_worker_dies_at(place: str, house: House) -> None:
    node, _, images = house
    if "gateway" not in node.processes:
        node.start("gateway")
    mine = [ultrasound(f"{place}{index}", place) for index in range(2)]
    assert send(node.port, *mine) == [0, 0]
    images += mine
    node.start("worker", crash_at=place)
    assert node.ended("worker") == [-signal.SIGKILL]


def test_everything_arrived_once(house: House) -> None:
    node, pacs, images = house
    node.complete()
    if not images:
        images.append(ultrasound("alone"))
        acknowledged(node, images[0])
    wait_for(lambda: settled(node))
    check(node, pacs, images)


@pytest.mark.parametrize("place", ["result-committed", "delivery-sent"])
def test_late_image_while_a_result_waits(place: str, house: House) -> None:
    """The worker dies while a newer result takes the place of one that the PACS does not have yet."""
    node, pacs, images = house
    node.complete()
    study = f"stale {place}"
    pacs.stop()
    images.append(ultrasound("1", study))
    acknowledged(node, images[-1])
    waiting = (
        "SELECT 1 FROM delivery JOIN result_object ON result_object.id = object_id "
        "JOIN job ON job.id = job_id JOIN study ON study.id = study_id "
        f"WHERE study_instance_uid = '{uid(study)}' AND delivery.attempts"
    )
    wait_for(lambda: query(node, waiting))
    node.kill("worker")
    images.append(ultrasound("2", study))
    acknowledged(node, images[-1])
    pacs.start()
    node.start("worker", crash_at=place)
    assert node.ended("worker") == [-signal.SIGKILL]
    node.start("worker")
    wait_for(lambda: settled(node))
    check(node, pacs, images)


def _counted(node: Node, study: str) -> int:
    """How many images of a study have a row."""
    found = query(
        node,
        "SELECT count(*) FROM instance JOIN study ON study.id = study_id "
        f"WHERE study_instance_uid = '{uid(study)}'",
    )
    return int(found[0][0])


def _kill_at_random_moments(
    node: Node, pacs: Pacs, images: list[Dataset], chance: random.Random, kills: int
) -> None:
    """Kill gateway, worker and both in turn while a scanner sends without pause."""
    done, pause, label = threading.Event(), threading.Event(), chance.getrandbits(32)

    def scan() -> None:
        count = 0
        while not done.is_set():
            image = ultrasound(str(count), f"{label}/{count // 3}")
            images.append(image)
            acknowledged(node, image, done)
            count += 1
            pause.wait(0.1)

    node.complete()
    scanner = threading.Thread(target=scan)
    scanner.start()
    try:
        for index in range(kills):
            victims = (("gateway",), ("worker",), ("gateway", "worker"))[index % 3]
            for name in victims:
                wait_for(lambda name=name: node.runtime(name))
            pause.wait(chance.uniform(0, 1.5))
            node.kill(*victims)
            node.start(*victims)
        so_far = len(images)
        wait_for(lambda: len(images) > so_far)
    finally:
        done.set()
        scanner.join()
    acknowledged(node, images[-1])  # the one under way when the scanner stopped
    wait_for(lambda: settled(node))
    check(node, pacs, images)


def test_every_place_in_the_code_is_one_that_tests_can_name() -> None:
    code = "".join(path.read_text() for path in (Path(__file__).parents[2] / "app").rglob("*.py"))
    assert sorted(set(re.findall(r'crash_point\("([^"]+)"\)', code))) == sorted(CRASH_POINTS)


def test_ten_kills_at_random_moments(house: House) -> None:
    node, pacs, images = house
    _kill_at_random_moments(node, pacs, images, random.Random(1), kills=10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_fifty_kills_at_random_moments(house: House, seed: int) -> None:
    node, pacs, images = house
    _kill_at_random_moments(node, pacs, images, random.Random(100 + seed), kills=10)
