"""A DICOM file that is being received: bytes go to disk as they arrive, and into its digests.

Promises: memory stays at one fragment whatever the size; the file begins with a zero preamble and file meta
information (PS3.10 7.1). Its name holds nothing that was received.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

_IMPLEMENTATION_CLASS_UID = "2.25.229823458761029384756123904817263540918"  # names busmap as the writer
_IMPLEMENTATION_VERSION_NAME = "BUSMAP"
_GROUP_LENGTH = struct.pack("<HH2sH", 2, 0, b"UL", 4)
_HEAD_BYTES = 128 + 4 + 12  # preamble, prefix, group length
_LONGEST_HEADER = 4096
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Received:
    """A whole file that is not durable yet.

    `content_sha256` covers transfer syntax and data set alone: the same image from two senders has one.
    """

    path: Path
    file_sha256: str
    content_sha256: str
    size_bytes: int


class IncomingFile:
    """Takes the fragments of one data set."""

    def __init__(
        self, folder: Path, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> None:
        """Open a file of a new name in `folder`; OSError where that cannot be done."""
        handle, name = tempfile.mkstemp(suffix=".dcm", dir=folder)
        self._path, self._handle = Path(name), handle
        self._whole = hashlib.sha256()
        self._content = hashlib.sha256(transfer_syntax_uid.encode() + b"\0")
        self._size = 0
        header = _header(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        self._whole.update(header)
        self._append(header)

    def write(self, data: memoryview) -> None:
        """Add the next fragment; OSError where the disk takes it not."""
        self._append(data)
        self._whole.update(data)
        self._content.update(data)

    def finish(self) -> Received:
        """Close the file; what it holds."""
        os.close(self._handle)
        self._handle = -1
        return Received(self._path, self._whole.hexdigest(), self._content.hexdigest(), self._size)

    def discard(self) -> None:
        """Close and remove the file, wherever it got to."""
        with contextlib.suppress(OSError):
            if self._handle >= 0:
                os.close(self._handle)
            self._handle = -1
            self._path.unlink()

    def _append(self, data: bytes | memoryview) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._handle, left) :]
        self._size += len(data)


def read_kept(path: Path) -> tuple[Received, str]:
    """What a kept file holds, from its bytes, and its transfer syntax.

    Raises
    ------
    ValueError
        It does not begin as the files made here do.
    OSError
        It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head[128:132] != b"DICM" or head[132:140] != _GROUP_LENGTH:
            raise ValueError("no file meta information")
        start = _HEAD_BYTES + int.from_bytes(head[140:], "little")
        if not _HEAD_BYTES < start <= _LONGEST_HEADER:
            raise ValueError("no file meta information")
        head += file.read(start - _HEAD_BYTES)
        syntax = _value(head, 0x10).rstrip(b"\0").decode("ascii")
        whole, content = hashlib.sha256(head), hashlib.sha256(syntax.encode() + b"\0")
        size = len(head)
        while data := file.read(_READ_BYTES):
            whole.update(data)
            content.update(data)
            size += len(data)
    return Received(path, whole.hexdigest(), content.hexdigest(), size), syntax


def _value(header: bytes, number: int) -> bytes:
    """The value of the first element (0002,number) of VR UI."""
    place = header.index(struct.pack("<HH2s", 2, number, b"UI"))
    length = int.from_bytes(header[place + 6 : place + 8], "little")
    return header[place + 8 : place + 8 + length]


def _header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    elements = [
        _element(0x01, b"OB", b"\0\1"),
        _element(0x02, b"UI", sop_class_uid.encode()),
        _element(0x03, b"UI", sop_instance_uid.encode()),
        _element(0x10, b"UI", transfer_syntax_uid.encode()),
        _element(0x12, b"UI", _IMPLEMENTATION_CLASS_UID.encode()),
        _element(0x13, b"SH", _IMPLEMENTATION_VERSION_NAME.encode()),
    ]
    length = _element(0x00, b"UL", struct.pack("<L", sum(map(len, elements))))
    return bytes(128) + b"DICM" + length + b"".join(elements)


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    value += bytes(len(value) % 2) if vr == b"UI" else b" " * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2sHL", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value
