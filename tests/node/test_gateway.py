"""What the gateway answers, keeps, and refuses. One gateway serves all tests of this module."""

from __future__ import annotations

import socket
import struct
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless
from pynetdicom import AE
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.dsutils import encode
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA
from sqlalchemy import text

from app.node.store.database import open_store
from tests.node.rig import (
    VERIFICATION,
    Node,
    associate,
    context_of,
    echo,
    exchange,
    held,
    report,
    send,
    store_request,
    ultrasound,
    wait_for,
)
from tests.operators.made_files import uid

CANARY = "CANARY^PATIENT"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    one = Node(
        tmp_path_factory.mktemp("gateway") / "state",
        gateway={
            "first_byte_timeout_seconds": 1.5,
            "network_timeout_seconds": 4,
            "maximum_associations_per_address": 4,
        },
    )
    one.start("gateway")
    yield one
    one.stop()


def rows(node: Node, sql: str) -> list[tuple[object, ...]]:
    store = open_store(node.folder)
    try:
        with store.read() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]
    finally:
        store.close()


def kept(node: Node) -> list[Path]:
    return sorted((node.folder / "images").glob("*/*.dcm"))


def resident(node: Node) -> float:
    """Resident memory of the gateway, MiB."""
    return psutil.Process(node.processes["gateway"].pid).memory_info().rss / 2**20


def test_echo_is_answered_and_memory_is_small(node: Node) -> None:
    assert echo(node.port) == 0
    assert resident(node) < 150


def test_unknown_called_title_is_refused(node: Node) -> None:
    association = associate(node.port, called="SOMEBODY")
    assert association.is_rejected


def test_success_means_file_and_row(node: Node) -> None:
    image = ultrasound("durable", "durable")
    assert send(node.port, image) == [0]
    [(digest, kind, state)] = rows(
        node,
        "SELECT file_sha256, kind, state FROM instance JOIN study ON study.id = study_id "
        f"WHERE sop_instance_uid = '{image.SOPInstanceUID}'",
    )
    assert (kind, state) == ("image", "open")
    path = node.folder / "images" / str(digest)[:2] / f"{digest}.dcm"
    assert path.read_bytes()[:128] == bytes(128)
    assert dcmread(path).PixelData == image.PixelData
    assert not list((node.folder / "incoming").iterdir())


def test_same_bytes_again_change_nothing(node: Node) -> None:
    image = ultrasound("twice", "twice")
    assert send(node.port, image, image) == [0, 0]
    before = (kept(node), rows(node, "SELECT * FROM study"), rows(node, "SELECT * FROM instance"))
    assert send(node.port, image) == [0]
    assert (kept(node), rows(node, "SELECT * FROM study"), rows(node, "SELECT * FROM instance")) == before


def test_a_lost_file_is_restored_by_sending_again(node: Node) -> None:
    image = ultrasound("lost", "lost")
    before = set(kept(node))
    assert send(node.port, image) == [0]
    [path] = set(kept(node)) - before
    path.unlink()
    assert send(node.port, image) == [0]
    assert path.exists()


def test_other_bytes_under_a_known_uid_go_into_quarantine(node: Node) -> None:
    first, second = ultrasound("same", "quarantine"), ultrasound("same", "quarantine")
    second.PixelData = bytes(reversed(second.PixelData))
    before = len(kept(node))
    assert send(node.port, first, second, second) == [0, 0, 0]
    assert len(kept(node)) == before + 2
    kinds = rows(
        node, f"SELECT kind FROM instance WHERE sop_instance_uid = '{first.SOPInstanceUID}' ORDER BY id"
    )
    assert kinds == [("image",), ("quarantine",)]
    [(code,)] = rows(
        node,
        "SELECT code FROM warning JOIN study ON study.id = study_id "
        f"WHERE study_instance_uid = '{first.StudyInstanceUID}'",
    )
    assert code == "duplicate-uid-different-bytes"


def test_foreign_report_is_kept_and_opens_nothing(node: Node) -> None:
    made = report("foreign", "foreign")
    assert send(node.port, made) == [0]
    found = rows(
        node,
        "SELECT kind, state FROM instance JOIN study ON study.id = study_id "
        f"WHERE sop_instance_uid = '{made.SOPInstanceUID}'",
    )
    assert found == [("other", "idle")]


def test_own_object_is_answered_and_not_kept(node: Node) -> None:
    made = report("own", "own")
    made.Manufacturer = "busmap"
    assert send(node.port, made) == [0]
    assert not rows(node, f"SELECT * FROM study WHERE study_instance_uid = '{made.StudyInstanceUID}'")


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["", "no uid", None])
def test_missing_or_malformed_uid_is_refused(node: Node, keyword: str, value: str | None) -> None:
    image = ultrasound("faulty", "faulty")
    before = kept(node)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom says that this is no UID
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
        assert send(node.port, image) == [0xA900]
    assert kept(node) == before


def test_class_and_instance_must_be_those_announced(node: Node) -> None:
    image = ultrasound("mismatch", "mismatch")
    association = associate(node.port, [image])
    request = _store_request(image)
    request.AffectedSOPInstanceUID = uid("another")
    answer = exchange(association, request)
    assert answer.Status == 0xA900
    assert "SOPInstanceUID" in answer.ErrorComment
    association.release()


def test_a_class_sent_in_the_context_of_another_is_refused(node: Node) -> None:
    """Class and data set agree, but this class was not accepted: only ultrasound images were."""
    image = ultrasound("unaccepted", "unaccepted")
    association = associate(node.port, [image])
    context = context_of(association, image.SOPClassUID)
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"  # CT, which is never offered
    before = kept(node)
    message = _c_store_message(_store_request(image))
    with held(association):
        for part in message.encode_msg(context, 1000):
            association.dul.socket.socket.sendall(_encoded(part))
        _, answer = association.dimse.get_msg(block=True)
    assert answer.Status == 0xA900
    assert "class" in answer.ErrorComment
    assert kept(node) == before
    assert association.send_c_echo().Status == 0
    association.release()


def test_cut_data_set_is_refused(node: Node) -> None:
    image = ultrasound("cut", "cut")
    association = associate(node.port, [image])
    request = _store_request(image)
    request.DataSet = BytesIO(request.DataSet.getvalue()[:-100])
    answer = exchange(association, request)
    assert answer.Status == 0xA900
    assert "cut" in answer.ErrorComment
    association.release()


def test_request_without_data_set_is_refused(node: Node) -> None:
    image = ultrasound("empty", "empty")
    association = associate(node.port, [image])
    request = _store_request(image)
    request.DataSet = None
    answer = exchange(association, request)
    assert answer is None or answer.Status in (0xA900, 0xC000)
    association.abort()
    assert echo(node.port) == 0


def test_retired_classes_and_compressed_syntaxes_are_stored(node: Node) -> None:
    image = ultrasound("retired", "retired")
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6"
    compressed = ultrasound("compressed", "retired")
    compressed.compress(JPEG2000Lossless, generate_instance_uid=False)
    assert send(node.port, image, compressed) == [0, 0]


def test_the_best_offered_syntax_is_taken(node: Node) -> None:
    entity = AE()
    entity.add_requested_context(
        ultrasound("x").SOPClassUID,
        ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"],
    )
    association = entity.associate("127.0.0.1", node.port, ae_title="BUSMAP")
    assert association.accepted_contexts[0].transfer_syntax == ["1.2.840.10008.1.2.4.80"]
    association.release()


@pytest.mark.parametrize("count", [10, 100])
def test_silent_clients_shut_nobody_out(node: Node, count: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(count)]
    try:
        assert echo(node.port) == 0
        silent[0].settimeout(10)
        assert silent[0].recv(1) == b""  # cut after the first-byte deadline
    finally:
        for one in silent:
            one.close()


def test_claimed_giant_pdu_is_cut(node: Node) -> None:
    before = resident(node)
    with socket.create_connection(("127.0.0.1", node.port)) as peer:
        peer.settimeout(10)
        peer.sendall(struct.pack(">BBL", 1, 0, 300 * 2**20))
        with pytest.raises(OSError):  # noqa: PT012 - whichever call meets the closed connection
            for _ in range(300):
                peer.sendall(bytes(2**20))
    assert resident(node) < before + 20
    assert echo(node.port) == 0


def test_stall_after_one_byte_is_cut(node: Node) -> None:
    with socket.create_connection(("127.0.0.1", node.port)) as peer:
        peer.settimeout(15)
        peer.sendall(b"\x01")
        assert _drained(peer)


def test_stall_within_a_transfer_is_cut_and_leaves_nothing(node: Node) -> None:
    image = ultrasound("stalled", "stalled")
    association = associate(node.port, [image])
    sending = association.dul.socket.socket
    request = _store_request(image)
    message = _c_store_message(request)
    pdus = [_encoded(pdv) for pdv in message.encode_msg(context_of(association, image.SOPClassUID), 1000)]
    sending.sendall(b"".join(pdus[:-2]) + pdus[-2][:50])
    incoming = node.folder / "incoming"
    wait_for(lambda: list(incoming.iterdir()))
    wait_for(lambda: not list(incoming.iterdir()))
    association.abort()
    assert echo(node.port) == 0


def test_several_values_in_one_pdu_are_one_image(node: Node) -> None:
    image = ultrasound("packed", "packed")
    association = associate(node.port, [image])
    parts = _c_store_message(_store_request(image)).encode_msg(
        context_of(association, image.SOPClassUID), 1000
    )
    packed = P_DATA()
    for part in parts:
        for value in part.presentation_data_value_list:
            packed.presentation_data_value_list.append(value)
    with held(association):
        association.dul.socket.socket.sendall(_encoded(packed))
        _, answer = association.dimse.get_msg(block=True)
    assert answer.Status == 0
    assert association.send_c_echo().Status == 0
    association.release()


def test_storage_in_a_context_that_is_none_for_storage_ends_the_association(node: Node) -> None:
    image = ultrasound("wrong-context", "wrong-context")
    association = associate(node.port, [image])
    [verification] = [one for one in association.accepted_contexts if one.abstract_syntax == VERIFICATION]
    request = _store_request(image)
    association.dimse.send_msg(request, verification.context_id)
    wait_for(lambda: not association.is_established)
    assert not list((node.folder / "incoming").iterdir())
    assert echo(node.port) == 0


def test_a_large_message_that_is_no_storage_ends_the_association(node: Node) -> None:
    association = associate(node.port)
    [verification] = association.accepted_contexts
    request = C_FIND()
    request.MessageID, request.Priority, request.AffectedSOPClassUID = 1, 2, VERIFICATION
    request.Identifier = BytesIO(bytes(2**20))
    association.dimse.send_msg(request, verification.context_id)
    wait_for(lambda: not association.is_established)
    assert echo(node.port) == 0


def test_idle_associations_do_not_fill_the_house(node: Node) -> None:
    held = [associate(node.port) for _ in range(node.settings.gateway.maximum_associations_per_address)]
    assert echo(node.port) is None
    for one in held:
        one.release()
    wait_for(lambda: echo(node.port) == 0)


def _store_request(image: Any) -> Any:
    return store_request(image.SOPClassUID, image.SOPInstanceUID, encode(image, False, True))


def _c_store_message(request: Any) -> Any:
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    return message


def _encoded(primitive: Any) -> Any:
    pdu = P_DATA_TF()
    pdu.from_primitive(primitive)
    return pdu.encode()


def _drained(peer: socket.socket) -> bool:
    """Whether the peer's end was reached, an abort before it allowed."""
    try:
        while peer.recv(4096):
            pass
    except ConnectionError:
        return True
    return True


def test_logs_hold_no_name_and_no_uid(node: Node) -> None:
    image = ultrasound("canary", "canary", PatientName=CANARY, PatientID="CANARYID")
    broken = ultrasound("canary2", "canary", PatientName=CANARY)
    del broken.SeriesInstanceUID
    assert send(node.port, image, broken) == [0, 0xA900]
    written = node.log_path.read_text()
    assert "image-new" in written
    for secret in (
        "CANARY",
        *(str(image[keyword].value) for keyword in ("StudyInstanceUID", "SOPInstanceUID")),
    ):
        assert secret not in written
    assert VERIFICATION not in written
