"""The messages of a storage transfer as bytes: P-DATA-TF, the C-STORE command set, its response.

Promises: what is read has bounds, what is written is one PDU. Refuses, by `BadMessage`, lengths that do not
fit and commands that cannot be followed. PS3.8 9.3.5 and annex E; PS3.7 6.3.1 and 9.3.1.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

P_DATA = 4  # PDU type
C_STORE_REQUEST, _C_STORE_RESPONSE = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
_COMMAND, _LAST = 1, 2  # bits of the message control header
_UID = re.compile(rb"[0-9.]{1,64}")
_UNPRINTABLE = re.compile(r"[^ -\[\]-~]")  # and the backslash, which separates values
_UI, _US, _LO = "UI", "US", "LO"


class BadMessage(ValueError):
    """Bytes that are no message; the association ends."""


@dataclass(frozen=True)
class Fragment:
    """One presentation data value: part of a command set or of a data set."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview

    def to_pdu(self) -> bytes:
        """A P-DATA-TF of this fragment alone."""
        control = (_COMMAND if self.is_command else 0) | (_LAST if self.is_last else 0)
        return _pdu(self.context_id, control, bytes(self.data))


@dataclass(frozen=True)
class Command:
    """What a request says of itself. A UID that is absent or no UID is empty."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str


def read_fragments(body: bytes | bytearray) -> list[Fragment]:
    """The presentation data values of a P-DATA-TF, without the PDU's header of six bytes.

    Raises
    ------
    BadMessage
        The lengths do not fit the body.
    """
    view, position, fragments = memoryview(body), 0, []
    while position < len(view):
        if position + 6 > len(view):
            raise BadMessage("a presentation data value is cut short")
        length, context_id, control = struct.unpack_from(">LBB", view, position)
        end = position + 4 + length
        if length < 2 or end > len(view):
            raise BadMessage("the length of a presentation data value does not fit")
        fragments.append(
            Fragment(context_id, bool(control & _COMMAND), bool(control & _LAST), view[position + 6 : end])
        )
        position = end
    if not fragments:
        raise BadMessage("a P-DATA-TF without a value")
    return fragments


def read_command(data: bytes | bytearray) -> Command:
    """A command set, implicit VR little endian.

    Raises
    ------
    BadMessage
        It cannot be followed to its end, or names no command.
    """
    values: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        if position + 8 > len(data):
            raise BadMessage("a command element is cut short")
        group, element, length = struct.unpack_from("<HHL", data, position)
        position += 8
        if group != 0 or position + length > len(data):
            raise BadMessage("a command element does not fit")
        values[element] = bytes(data[position : position + length])
        position += length
    if len(values.get(0x0100, b"")) != 2:
        raise BadMessage("the command names no command field")
    return Command(
        field=_number(values, 0x0100),
        message_id=_number(values, 0x0110),
        has_data_set=_number(values, 0x0800, _NO_DATA_SET) != _NO_DATA_SET,
        sop_class_uid=_uid(values, 0x0002),
        sop_instance_uid=_uid(values, 0x1000),
    )


def store_response(context_id: int, request: Command, status: int, comment: str = "") -> bytes:
    """The C-STORE response as one PDU; of a comment the first 64 characters, printable ASCII."""
    elements: list[tuple[int, str, int | str]] = [
        (0x0002, _UI, request.sop_class_uid),
        (0x0100, _US, _C_STORE_RESPONSE),
        (0x0120, _US, request.message_id),
        (0x0800, _US, _NO_DATA_SET),
        (0x0900, _US, status),
        (0x1000, _UI, request.sop_instance_uid),
    ]
    if comment:
        elements.insert(-1, (0x0902, _LO, _UNPRINTABLE.sub("?", comment[:64])))
    encoded = b"".join(_element(number, vr, value) for number, vr, value in elements)
    group_length = struct.pack("<HHLL", 0, 0, 4, len(encoded))
    return _pdu(context_id, _COMMAND | _LAST, group_length + encoded)


def _number(values: dict[int, bytes], element: int, default: int = 0) -> int:
    value = values.get(element, b"")
    return int.from_bytes(value, "little") if len(value) == 2 else default


def _uid(values: dict[int, bytes], element: int) -> str:
    value = values.get(element, b"").rstrip(b"\0 ")
    return value.decode("ascii") if _UID.fullmatch(value) else ""


def _element(number: int, vr: str, value: int | str) -> bytes:
    if isinstance(value, int):
        encoded = struct.pack("<H", value)
    else:
        encoded = value.encode("ascii", "replace")
        encoded += (b"\0" if vr == _UI else b" ") * (len(encoded) % 2)
    return struct.pack("<HHL", 0, number, len(encoded)) + encoded


def _pdu(context_id: int, control: int, data: bytes) -> bytes:
    value = struct.pack(">LBB", len(data) + 2, context_id, control) + data
    return struct.pack(">BBL", P_DATA, 0, len(value)) + value
