"""The bytes of storage messages: what pynetdicom writes is read, what is written pynetdicom reads."""

from __future__ import annotations

import contextlib
from io import BytesIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode
from pynetdicom.pdu import P_DATA_TF

from app.node.pdata import BadMessage, Command, read_command, read_fragments, store_response

UIDS = st.from_regex(r"[12](\.(0|[1-9][0-9]{0,8})){2,5}", fullmatch=True)


def request_pdus(sop_class: str, sop_instance: str, number: int, data: bytes, length: int) -> list[bytes]:
    request = C_STORE()
    request.MessageID, request.Priority = number, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop_instance
    request.DataSet = BytesIO(data)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pdus = []
    for part in message.encode_msg(1, length):
        pdu = P_DATA_TF()
        pdu.from_primitive(part)
        pdus.append(pdu.encode())
    return pdus


@given(UIDS, UIDS, st.integers(0, 65535), st.binary(min_size=1, max_size=5000), st.integers(50, 4000))
def test_a_request_of_the_library_is_read(
    sop_class: str, sop_instance: str, number: int, data: bytes, length: int
) -> None:
    command, data_set = b"", b""
    for pdu in request_pdus(sop_class, sop_instance, number, data, length):
        for fragment in read_fragments(pdu[6:]):
            assert fragment.to_pdu() == pdu
            if fragment.is_command:
                command += fragment.data
            else:
                data_set += fragment.data
    assert fragment.is_last
    assert data_set == data
    assert read_command(command) == Command(1, number, True, sop_class, sop_instance)


@given(UIDS, UIDS, st.integers(0, 65535), st.sampled_from([0, 0xA700, 0xA900]), st.text(max_size=100))
@example("1.2.3", "1.2.3.4", 1, 0xA900, "\x1b \\ \0")
def test_a_response_is_read_by_the_library(
    sop_class: str, sop_instance: str, number: int, status: int, comment: str
) -> None:
    sent = store_response(3, Command(1, number, True, sop_class, sop_instance), status, comment)
    pdu = P_DATA_TF()
    pdu.decode(sent)
    [(context_id, value)] = pdu.to_primitive().presentation_data_value_list
    assert (context_id, value[0]) == (3, 3)
    read = decode(BytesIO(value[1:]), True, True)
    assert (read.CommandField, read.MessageIDBeingRespondedTo, read.Status) == (0x8001, number, status)
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == (sop_class, sop_instance)
    assert read.CommandGroupLength == len(value) - 1 - 12
    assert len(str(read.get("ErrorComment") or "")) <= 64
    assert str(read.get("ErrorComment") or "").isprintable()


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadMessage):
        assert sum(6 + len(one.data) for one in read_fragments(data)) == len(data), "no byte is passed over"
    with contextlib.suppress(BadMessage):
        command = read_command(data)
        for uid in (command.sop_class_uid, command.sop_instance_uid):
            assert len(uid) <= 64
            assert set(uid) <= set("0123456789.")


@pytest.mark.parametrize("uid", [b"../../etc/passwd", b"1.2\n3", b"1" * 65, b""])
def test_what_is_no_uid_is_read_as_none(uid: bytes) -> None:
    field = b"\0\0\0\1\2\0\0\0\1\0"
    element = b"\0\0\0\x10" + len(uid).to_bytes(4, "little") + uid
    assert read_command(field + element).sop_instance_uid == ""
