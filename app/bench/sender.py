"""A sender that is no bottleneck: one association, everything encoded beforehand, bytes straight to a socket.

Run as a process of its own, one for each association: `python -m app.bench.sender`. It takes its order as one
line of JSON on stdin, says "ready" once the association is accepted and all PDUs are encoded, starts at the
next line, and answers with one line of JSON. Promises: sends the next image when the last one is answered,
as scanners do; PDUs are as long as the receiver allows, at most 128 KiB.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

_LONGEST_PDU_BYTES = 128 * 1024
_CONTEXT = 1
_RELEASE = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))  # A-RELEASE-RQ (PS3.8 9.3.6)
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Order:
    """What to send where. All images are of one SOP class, in explicit little endian."""

    port: int
    called_ae_title: str
    calling_ae_title: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Sent:
    """When the first image left and the last answer came (seconds of the monotonic clock); the answers."""

    started: float
    ended: float
    statuses: tuple[int, ...]


def main() -> int:
    """Take an order, send, answer."""
    given = json.loads(sys.stdin.readline())
    order = Order(**{**given, "paths": tuple(given["paths"])})
    first = dcmread(order.paths[0], stop_before_pixels=True, specific_tags=["SOPClassUID"])
    with socket.create_connection(("127.0.0.1", order.port), _TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        length = _associate(connection, order, str(first.SOPClassUID))
        messages = [_encoded(Path(path), length) for path in order.paths]
        print("ready", flush=True)
        sys.stdin.readline()
        sent = _send_all(connection, messages)
        connection.sendall(_RELEASE)
        _read_pdu(connection)
    print(json.dumps(asdict(sent)), flush=True)
    return 0


def _send_all(connection: socket.socket, messages: Sequence[bytes]) -> Sent:
    started, statuses = time.monotonic(), []
    for message in messages:
        connection.sendall(message)
        statuses.append(_status(connection))
    return Sent(started, time.monotonic(), tuple(statuses))


def _associate(connection: socket.socket, order: Order, sop_class_uid: str) -> int:
    """Open the association; answers the longest PDU to send, in bytes."""
    context = build_context(sop_class_uid, ExplicitVRLittleEndian)
    context.context_id = _CONTEXT
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = UID("1.2.826.0.1.3680043.9.3811.3.0.4")
    request = A_ASSOCIATE()
    request.application_context_name = UID("1.2.840.10008.3.1.1.1")
    request.calling_ae_title, request.called_ae_title = order.calling_ae_title, order.called_ae_title
    request.presentation_context_definition_list = [context]
    request.user_information = [length, implementation]
    connection.sendall(A_ASSOCIATE_RQ(request).encode())
    answer = A_ASSOCIATE_AC()
    kind, body = _read_pdu(connection)
    if kind != 2:
        raise SystemExit(f"{order.called_ae_title} refused the association")
    answer.decode(body)
    [accepted] = answer.presentation_context
    if accepted.result != 0:
        raise SystemExit(f"{order.called_ae_title} accepts no such image")
    return min(answer.user_information.maximum_length or _LONGEST_PDU_BYTES, _LONGEST_PDU_BYTES)


def _encoded(path: Path, length: int) -> bytes:
    """A C-STORE request with its data set, as the PDUs that go over the wire."""
    image = dcmread(path)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    request.DataSet = BytesIO(encode(image, is_implicit_vr=False, is_little_endian=True) or b"")
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pdus = []
    for part in message.encode_msg(_CONTEXT, length):
        pdu = P_DATA_TF()
        pdu.from_primitive(part)
        pdus.append(pdu.encode())
    return b"".join(pdus)


def _status(connection: socket.socket) -> int:
    """The status of the next C-STORE response."""
    command = b""
    while True:
        kind, body = _read_pdu(connection)
        if kind != 4:
            raise SystemExit("the receiver ended the association")
        position = 6
        while position < len(body):
            (size,) = struct.unpack_from(">L", body, position)
            command += body[position + 6 : position + 4 + size]
            if body[position + 5] & 2:
                return int(decode(BytesIO(command), True, True).Status)
            position += 4 + size


def _read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and bytes of the next PDU, its header included (PS3.8 9.3)."""
    head = _read(connection, 6)
    return head[0], head + _read(connection, struct.unpack(">L", head[2:])[0])


def _read(connection: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        chunk = connection.recv(count - len(read))
        if not chunk:
            raise SystemExit("the receiver closed the connection")
        read += chunk
    return read


if __name__ == "__main__":
    sys.exit(main())
