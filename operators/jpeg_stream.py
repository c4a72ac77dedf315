"""What a JPEG, JPEG-LS or JPEG 2000 stream says of itself, read from its first markers without decoding.

Promises: dimensions, components and colour transform of the stream (ISO 10918-1 B.2, ISO 14495-1 C.2,
ISO 15444-1 A.5). Never reads beyond the bytes given; returns None for what is no such stream.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_J2K_START = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class StreamFacts:
    """Dimensions of a compressed frame. `adobe_transform` and `jfif` say how its colours are coded."""

    columns: int
    rows: int
    components: int
    component_ids: bytes = b""
    jfif: bool = False
    adobe_transform: int | None = None

    def photometric_interpretation(self, declared: str) -> str:
        """Colour of the samples as Pillow hands them on, where a JPEG stream contradicts the header.

        With an Adobe marker Pillow converts to RGB itself. Without one, a JFIF marker means YCbCr and the
        component names R, G, B mean RGB, whatever Photometric Interpretation says.
        """
        if self.adobe_transform is not None or self.component_ids == b"RGB":
            return "RGB"
        if self.jfif and declared == "RGB":
            return "YBR_FULL"
        return declared


def stream_facts(stream: bytes) -> StreamFacts | None:
    """Read the facts of one compressed frame; None where it is no JPEG, JPEG-LS or JPEG 2000 stream."""
    if stream[:2] == b"\xff\xd8":
        return _jpeg_facts(stream)
    at = stream.find(_J2K_START, 0, 4096)  # a JP2 wrapper may stand before the code stream
    return None if at < 0 else _j2k_facts(stream, at)


def _jpeg_facts(stream: bytes) -> StreamFacts | None:
    at, jfif, adobe_transform = 2, False, None
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF or marker in _WITHOUT_LENGTH:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", stream, at + 2)
        body = stream[at + 4 : at + 2 + length]
        if marker == 0xE0 and body[:4] == b"JFIF":
            jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe_transform = body[11]
        elif marker in _START_OF_FRAME and len(body) >= 6:
            _, rows, columns, components = struct.unpack_from(">BHHB", body)
            return StreamFacts(columns, rows, components, body[6::3][:components], jfif, adobe_transform)
        at += 2 + max(length, 2)
    return None


def _j2k_facts(stream: bytes, at: int) -> StreamFacts | None:
    if len(stream) < at + 42:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
    (components,) = struct.unpack_from(">H", stream, at + 40)
    return StreamFacts(right - left, bottom - top, components)
