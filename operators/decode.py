"""Decode pixel data frame by frame, each transfer syntax with one fixed decoder.

Promises: uint8 grey or RGB for every photometric interpretation of an ultrasound image (PS3.3 C.8.5.6.1.2);
one frame in memory at a time. A damaged frame is an error, never a part of a picture.
Refuses: what `operators.pixel_layout` and `operators.stored_frames` refuse; more than 8 bits of JPEG.

Two decoders that differ by a grey level would make two reports of one study: so none is ever chosen by
what happens to be installed. JPEG 8-bit: Pillow. Lossless JPEG: GDCM. JPEG-LS: CharLS (pyjpegls). JPEG 2000
and HTJ2K: OpenJPEG. RLE: pylibjpeg-rle. Native: pydicom. Video: FFmpeg, by the extra `video`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut

from operators.jpeg_stream import StreamFacts
from operators.pixel_layout import (
    DECODING_PLUGIN,
    ENCAPSULATED_NATIVE,
    NATIVE,
    VIDEO,
    PixelLayout,
    UndecodableError,
    pixel_layout,
    syntax_name,
    undecodable,
)
from operators.read_header import UnreadableHeaderError, open_part10, quiet_pydicom
from operators.stored_frames import find_pixel_data, stored_frames, with_true_chroma
from operators.video import decode_video

Pixels = npt.NDArray[np.uint8]

_JPEG = frozenset({uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit})
_PALETTE = tuple(
    f"{prefix}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for prefix, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
)


def decode_frames(
    path: Path, header: Dataset, frame_numbers: Sequence[int] | None = None
) -> Iterator[tuple[int, Pixels]]:
    """Yield (frame number from 1, pixels) in ascending order; all frames where no numbers are given.

    Parameters
    ----------
    path : Path
        DICOM file. Read as a stream: one compressed and one decoded frame are held at a time.
    header : Dataset
        Its header as `read_header` returns it, with file meta information.
    frame_numbers : sequence of int, optional
        The frames wanted, 1-based; the others are skipped, not decoded.

    Yields
    ------
    int, ndarray
        uint8 of shape (rows, columns), or (rows, columns, 3) RGB. MONOCHROME1 comes inverted, so that
        bright is always high.

    Raises
    ------
    UndecodableError
        The syntax has no decoder, bytes are missing, or a frame is damaged.
    """
    layout = pixel_layout(header)
    # A range, not a list: the number of frames is only a claim so far.
    wanted: Sequence[int] = range(1, layout.number_of_frames + 1)
    if frame_numbers is not None:
        wanted = sorted(set(frame_numbers))
    if not wanted:
        return
    if wanted[0] < 1 or wanted[-1] > layout.number_of_frames:
        raise undecodable(f"A frame beyond the {layout.number_of_frames} of the image was asked for.")
    table = _palette_table(header, layout) if layout.photometric_interpretation == "PALETTE COLOR" else None
    try:
        with open_part10(path) as file:
            element = find_pixel_data(file, layout)
            if layout.transfer_syntax_uid in VIDEO:
                yield from decode_video(file, layout, wanted)
                return
            layout = with_true_chroma(layout, element, file.remaining())
            for number, encoded, facts in stored_frames(file, layout, element, wanted):
                yield number, _to_display(_decode_one(encoded, layout, facts, number), layout, table)
    except UnreadableHeaderError as error:
        raise UndecodableError(error.reason, error.detail) from error


def _decode_one(
    encoded: bytes, layout: PixelLayout, facts: StreamFacts | None, number: int
) -> npt.NDArray[np.unsignedinteger]:
    photometric = layout.photometric_interpretation
    if layout.transfer_syntax_uid in _JPEG and facts is not None and layout.samples_per_pixel == 3:
        photometric = facts.photometric_interpretation(photometric)
    syntax = layout.transfer_syntax_uid
    if syntax == ENCAPSULATED_NATIVE:
        data, plugin, syntax = encoded[: layout.frame_bytes], "", uid.ExplicitVRLittleEndian
    elif syntax in NATIVE:
        data, plugin = encoded, ""
    else:
        data, plugin = _encapsulated(encoded), DECODING_PLUGIN[syntax]
        _silence_gdcm()
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": layout.samples_per_pixel,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "planar_configuration": layout.planar_configuration,
        "photometric_interpretation": photometric,
        "pixel_representation": 0,
        "pixel_keyword": "PixelData",
        "pixel_vr": "OB" if layout.bits_allocated == 8 else "OW",
    }
    try:
        with quiet_pydicom():
            decoder = get_decoder(uid.UID(syntax))
            pixels, _ = decoder.as_array(data, index=0, decoding_plugin=plugin, **options)
    except MemoryError:
        raise
    except Exception as error:  # codecs raise anything on foreign bytes
        raise undecodable(
            f"Frame {number} cannot be decoded as {syntax_name(layout.transfer_syntax_uid)}, {photometric} "
            f"({type(error).__name__}); send the image again from its source."
        ) from error
    return pixels


def _encapsulated(encoded: bytes) -> bytes:
    """One frame as encapsulated pixel data: empty offset table, one fragment (PS3.5 A.4)."""
    padded = encoded + b"\0" * (len(encoded) % 2)
    return b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0" + len(padded).to_bytes(4, "little") + padded


@functools.cache
def _silence_gdcm() -> None:
    """GDCM writes its remarks to stderr, past every log; the exception says what matters."""
    for stream in ("Warning", "Error", "Debug"):
        getattr(gdcm.Trace, f"{stream}Off")()


def _to_display(pixels: npt.NDArray[np.unsignedinteger], layout: PixelLayout, table: Pixels | None) -> Pixels:
    """Indices through the palette, deep grey cut to its 8 high bits, MONOCHROME1 inverted."""
    if table is not None:
        shown: Pixels = table[pixels & (2**layout.bits_stored - 1)]
        return shown
    if layout.bits_allocated > 8:
        pixels = (pixels & (2**layout.bits_stored - 1)) >> max(layout.bits_stored - 8, 0)
    grey: Pixels = pixels.astype(np.uint8, copy=False)
    return 255 - grey if layout.photometric_interpretation == "MONOCHROME1" else grey


def _palette_table(header: Dataset, layout: PixelLayout) -> Pixels:
    """RGB of every possible index: uint8 (2**bits_stored, 3), from the palette of PS3.3 C.7.6.3.1.5.

    pydicom reads palette words as little endian whatever the file is: so they are made so first.
    """
    palette = Dataset()
    palette.file_meta = FileMetaDataset()
    palette.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    big_endian = layout.transfer_syntax_uid == uid.ExplicitVRBigEndian
    try:
        with quiet_pydicom():
            for keyword in _PALETTE:
                if keyword in header:
                    value = header[keyword].value
                    if keyword.endswith("Data"):
                        value = _palette_bytes(value, big_endian=big_endian)
                    setattr(palette, keyword, value)
            indices = np.arange(2**layout.bits_stored, dtype=np.uint16)
            table = apply_color_lut(indices.reshape(1, -1), palette)[0]
    except Exception as error:  # descriptors and segments are foreign bytes
        raise undecodable(
            "The colour palette of the image is missing or damaged; send it again from its source."
        ) from error
    if table.dtype != np.uint8 and table.max() > 255:  # some writers keep 8-bit entries in 16-bit words
        table = table >> 8
    rgb: Pixels = table[:, :3].astype(np.uint8)
    return rgb


def _palette_bytes(value: object, *, big_endian: bool) -> bytes:
    if not isinstance(value, bytes):
        return np.asarray(value, "<u2").tobytes()
    return np.frombuffer(value, ">u2").astype("<u2").tobytes() if big_endian else value
