"""Find the frames of a file's pixel data as they are stored, one at a time.

Promises: never more than one stored frame in memory; the bytes present are compared with the bytes that the
header asks for, and a compressed frame's own dimensions with the header's, before a decoder allocates them.
Refuses: pixel data that is cut, and frames whose fragments cannot be put together (PS3.5 A.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydicom import dcmread, uid
from pydicom.encaps import generate_frames

from operators.jpeg_stream import StreamFacts, stream_facts
from operators.pixel_layout import ENCAPSULATED_NATIVE, NATIVE, PixelLayout, cut_after, undecodable
from operators.read_header import BoundedFile, pixel_data_start, quiet_pydicom


@dataclass(frozen=True)
class PixelElement:
    """The Pixel Data element of an open file: its VR, declared length, and extended offset table if any."""

    vr: str
    length: int
    extended_offsets: tuple[bytes, bytes] | None = None


def find_pixel_data(file: BoundedFile, layout: PixelLayout) -> PixelElement:
    """Step from the start of a file to the value of its Pixel Data (PS3.5 7.1).

    Raises
    ------
    UndecodableError
        There is none.
    """
    with quiet_pydicom():
        tables = dcmread(  # stops at Pixel Data; nothing but the offset table is kept
            file,  # type: ignore[arg-type]
            stop_before_pixels=True,
            specific_tags=["ExtendedOffsetTable", "ExtendedOffsetTableLengths"],
        )
        extended = None
        if "ExtendedOffsetTable" in tables and "ExtendedOffsetTableLengths" in tables:
            extended = (tables.ExtendedOffsetTable, tables.ExtendedOffsetTableLengths)
    file.lift_budget()
    start = pixel_data_start(file, layout.transfer_syntax_uid)
    if start is None:
        raise undecodable("The object has no Pixel Data; send the image itself.")
    return PixelElement(*start, extended)


def with_true_chroma(layout: PixelLayout, element: PixelElement, present: int) -> PixelLayout:
    """The layout without 4:2:2 where the bytes are there for full chroma: a common fault of converters."""
    full = replace(layout, photometric_interpretation="YBR_FULL")
    needed = full.frame_bytes * full.number_of_frames
    subsampled = layout.photometric_interpretation == "YBR_FULL_422" and layout.transfer_syntax_uid in NATIVE
    return full if subsampled and min(element.length, present) >= needed else layout


def stored_frames(
    file: BoundedFile, layout: PixelLayout, element: PixelElement, wanted: Sequence[int]
) -> Iterator[tuple[int, bytes, StreamFacts | None]]:
    """Yield (frame number, bytes as stored, what a compressed stream says of itself) for the wanted frames.

    `file` stands at the value of Pixel Data; `wanted` are 1-based numbers in ascending order.

    Raises
    ------
    UndecodableError
        Bytes are missing, fragments do not fit, or a frame has other dimensions than the header says.
    """
    if layout.transfer_syntax_uid in NATIVE:
        yield from ((*frame, None) for frame in _native_frames(file, layout, element, wanted))
    else:
        yield from _encapsulated_frames(file, layout, wanted, element.extended_offsets)


def _native_frames(
    file: BoundedFile, layout: PixelLayout, element: PixelElement, wanted: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    needed, present = layout.frame_bytes * layout.number_of_frames, min(element.length, file.remaining())
    if present < needed:
        raise undecodable(
            f"Pixel data is cut: the header asks for {needed} bytes, {present} are there; send it again."
        )
    # PS3.5 7.3: in big endian OW the two bytes of a word are swapped, even where each is a pixel.
    big_endian = layout.transfer_syntax_uid == uid.ExplicitVRBigEndian
    swapped = big_endian and element.vr == "OW" and layout.bits_allocated == 8
    start = file.tell()
    for number in wanted:
        first = layout.frame_bytes * (number - 1)
        skipped = first % 2 if swapped else 0
        file.seek(start + first - skipped)
        span = layout.frame_bytes + skipped
        data = file.read(span + span % 2 if swapped else span)
        if swapped:
            data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
        yield number, data[skipped : skipped + layout.frame_bytes]


def _encapsulated_frames(
    file: BoundedFile, layout: PixelLayout, wanted: Sequence[int], extended: tuple[bytes, bytes] | None
) -> Iterator[tuple[int, bytes, StreamFacts | None]]:
    if layout.number_of_frames > file.remaining() // 8:  # every frame has an item of its own (PS3.5 A.4)
        raise cut_after(layout, 0)
    frames = generate_frames(file, number_of_frames=layout.number_of_frames, extended_offsets=extended)
    found = 0
    for number in wanted:
        encoded = b""
        while found < number:
            encoded = _next_frame(frames, file, layout, found)
            found += 1
        yield number, encoded, _check_stream(encoded, layout, number)


def _next_frame(frames: Iterator[bytes], file: BoundedFile, layout: PixelLayout, found: int) -> bytes:
    try:
        with quiet_pydicom():
            encoded = next(frames, None)
    except Exception as error:  # offset tables and items are foreign bytes
        raise undecodable(
            f"The fragments of frame {found + 1} cannot be put together; send the image again."
        ) from error
    if encoded is None or file.cut_reads:
        raise cut_after(layout, found)
    return encoded


def _check_stream(encoded: bytes, layout: PixelLayout, number: int) -> StreamFacts | None:
    """Compare the dimensions inside a compressed frame with the header, before a decoder allocates them."""
    if layout.transfer_syntax_uid == uid.RLELossless:
        # A PackBits run makes at most 128 bytes of two (PS3.5 G.3).
        if len(encoded) * 64 < layout.frame_bytes:
            raise undecodable(
                f"Frame {number} is too short for the pixels that the header declares; send the image again."
            )
        return None
    if layout.transfer_syntax_uid == ENCAPSULATED_NATIVE:
        if not layout.frame_bytes <= len(encoded) <= layout.frame_bytes + 1:
            raise undecodable(
                f"Frame {number} has {len(encoded)} bytes, the header asks for {layout.frame_bytes}; "
                "send it again."
            )
        return None
    facts = stream_facts(encoded)
    if facts is None:
        raise undecodable(
            f"Frame {number} holds no {uid.UID(layout.transfer_syntax_uid).name} data; send the image again."
        )
    declared = (layout.columns, layout.rows, layout.samples_per_pixel)
    if (facts.columns, facts.rows, facts.components) != declared:
        raise undecodable(
            f"Frame {number} is {facts.columns} x {facts.rows} pixels of {facts.components} components, "
            f"in the header {layout.columns} x {layout.rows} of {layout.samples_per_pixel}; send it again."
        )
    return facts
