"""A patient corrected or merged while the study was analysed: parked for a person, and nobody else waits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.node.status import read_status, render_status, resend, retry
from app.node.store.database import open_store
from app.node.store.overview import DeliveryLine, count_states
from tests.node import peers
from tests.node.peers import storescp
from tests.node.rig import Node, send, ultrasound
from tests.node.test_loop import finished
from tests.operators.made_files import uid
from tests.orthanc import Orthanc

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Orthanc]]:
    """A node with two destinations: an archive that answers queries, and a storage that does not."""
    folder: Path = tmp_path_factory.mktemp("identity")
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(peers.archive(folder / "orthanc"))
        storage = stack.enter_context(storescp(folder / "storage"))
        common = {"ae_title": "PACS", "host": "127.0.0.1"}
        url = archive.root + "/dicom-web"
        node = Node(
            folder / "state",
            delivery={
                "destinations": [
                    {"name": "archive", "port": archive.dicom_port, **common},
                    {
                        "name": "web",
                        "port": archive.dicom_port,
                        "identity_check": "qido",
                        "qido_url": url,
                        **common,
                    },
                    {"name": "storage", "port": storage, **common},
                ]
            },
        )
        stack.callback(node.stop)
        node.start()
        yield node, archive


def of(node: Node, study: str, revision: int = 1) -> dict[str, set[tuple[str, str | None]]]:
    """State and identity of a study's newest deliveries, by destination."""
    found: dict[str, set[tuple[str, str | None]]] = {}
    for one in newest(node, study, revision):
        found.setdefault(one.destination, set()).add((one.state, one.identity))
    return found


def newest(node: Node, study: str, revision: int) -> list[DeliveryLine]:
    return [one for one in finished(node, study, revision).deliveries if one.revision == revision]


def shown(node: Node) -> str:
    return " ".join(render_status(read_status(node.settings)).replace("│", " ").split())


UNASKED = {("accepted", "no-query-service")}


def test_same_patient_is_delivered_and_says_where_nobody_could_be_asked(
    house: tuple[Node, Orthanc],
) -> None:
    node, archive = house
    image = ultrasound("1", "right")
    assert send(archive.dicom_port, image) == [0]
    assert send(node.port, image) == [0]
    matched = {("accepted", "matched")}
    assert of(node, "right") == {"archive": matched, "web": matched, "storage": UNASKED}
    assert "storage: identity not checked" in shown(node)
    store = open_store(node.folder)
    counted = count_states(store).identities
    store.close()
    objects = len(newest(node, "right", 1)) // 3
    assert counted == {
        ("archive", "matched"): objects,
        ("web", "matched"): objects,
        ("storage", "no-query-service"): objects,
    }


def test_another_patient_is_parked_until_the_study_is_corrected(house: tuple[Node, Orthanc]) -> None:
    node, archive = house
    image = ultrasound("1", "merged", PatientID="CANARY1", PatientName="CANARY^ONE")
    assert send(archive.dicom_port, image) == [0]
    archive.correct(uid("merged"), PatientID="CANARY2", PatientName="CANARY^TWO")
    before = {one.SOPInstanceUID for one in archive.held()}
    assert send(node.port, image) == [0]
    parked = {("parked", "mismatch")}
    for _ in range(2):  # asked for again, it is compared again
        assert of(node, "merged") == {"archive": parked, "web": parked, "storage": UNASKED}
        resend(node.settings, uid("merged"))
    assert of(node, "merged") == {"archive": parked, "web": parked, "storage": UNASKED}
    assert {one.SOPInstanceUID for one in archive.held()} == before
    assert "identity-mismatch" in shown(node)
    assert "CANARY" not in node.log_path.read_text() + shown(node)
    archive.correct(uid("merged"), PatientID="CANARY1", PatientName="Canary^One")
    resend(node.settings, uid("merged"))
    matched = {("accepted", "matched")}
    assert of(node, "merged") == {"archive": matched, "web": matched, "storage": UNASKED}


def test_a_person_may_release_it(house: tuple[Node, Orthanc]) -> None:
    node, archive = house
    assert send(archive.dicom_port, ultrasound("1", "released", PatientID="P2")) == [0]
    assert send(node.port, ultrasound("1", "released")) == [0]
    assert of(node, "released")["archive"] == {("parked", "mismatch")}
    resend(node.settings, uid("released"), release_identity=True)
    assert of(node, "released")["archive"] == {("accepted", "released")}


def test_corrected_images_make_a_result_of_the_right_patient(house: tuple[Node, Orthanc]) -> None:
    node, archive = house
    corrected = ultrasound("1", "anew", PatientID="P2")
    assert send(archive.dicom_port, corrected) == [0]
    assert send(node.port, ultrasound("1", "anew")) == [0]
    assert of(node, "anew")["archive"] == {("parked", "mismatch")}
    # The archive sends what it has: kept, warned of, and not used before a person says so.
    assert send(node.port, corrected) == [0]
    assert of(node, "anew", 2)["archive"] == {("parked", "mismatch")}
    retry(node.settings, uid("anew"), use_resent=True)
    assert of(node, "anew", 3)["archive"] == {("accepted", "matched")}
    states = {(one.revision, one.state) for one in finished(node, "anew", 3).deliveries}
    assert {(1, "superseded"), (2, "superseded"), (3, "accepted")} <= states
