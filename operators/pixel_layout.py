"""What a header says of its pixels, checked before a byte of them is read.

Promises: a PixelLayout is that of an ultrasound image (PS3.3 C.8.5.6.1), within bounds, in a transfer syntax
that `operators.decode` reads.
Refuses, by name: JPEG XL, JPIP and whatever else no decoder here reads; video without the extra `video`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from pydicom import uid
from pydicom.config import IGNORE
from pydicom.dataset import Dataset

from operators.study import Reason

# The one decoder of each compressed transfer syntax, by the name of pydicom's plugin.
DECODING_PLUGIN: dict[str, str] = {
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGExtended12Bit: "pillow",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    uid.RLELossless: "pylibjpeg",
}
NATIVE = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
    }
)
# Uncompressed frames in fragments (PS3.5 A.4.11).
ENCAPSULATED_NATIVE = "1.2.840.10008.1.2.1.98"
VIDEO = frozenset(
    f"1.2.840.10008.1.2.4.{number}{fragmentable}" for number in range(100, 109) for fragmentable in ("", ".1")
)
_REQUIRED = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")
MAXIMUM_FRAME_PIXELS = 2**25  # 33 million: four times the largest ultrasound screen
_NOT_IN_PYDICOM = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}


class UndecodableError(ValueError):
    """Pixel data that cannot be decoded. `reason` and `detail` go into a SetAside as they are."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def undecodable(detail: str) -> UndecodableError:
    """The error for pixel data that has a decoder but is missing, cut or damaged."""
    return UndecodableError(Reason.PIXELS_UNDECODABLE, detail)


@dataclass(frozen=True)
class PixelLayout:
    """The Image Pixel module (PS3.3 C.7.6.3) of a header, checked."""

    transfer_syntax_uid: str
    photometric_interpretation: str
    rows: int
    columns: int
    samples_per_pixel: int
    number_of_frames: int
    bits_allocated: int
    bits_stored: int
    planar_configuration: int

    @property
    def frame_bytes(self) -> int:
        """Length of one uncompressed frame; 4:2:2 drops every other chroma pair (PS3.3 C.7.6.3.1.2)."""
        samples = 2 if self.photometric_interpretation == "YBR_FULL_422" else self.samples_per_pixel
        return self.rows * self.columns * samples * self.bits_allocated // 8


def registered_name(value: str) -> str:
    """The name of a UID in PS3.6, or the value itself; says nothing of a malformed one, as pydicom would."""
    return _NOT_IN_PYDICOM.get(value) or uid.UID(value, validation_mode=IGNORE).name


def syntax_name(transfer_syntax_uid: str) -> str:
    """Name and UID of a transfer syntax for a message."""
    name = registered_name(transfer_syntax_uid)
    return transfer_syntax_uid if name == transfer_syntax_uid else f"{name} ({transfer_syntax_uid})"


def require_decoder(transfer_syntax_uid: str) -> None:
    """Raise UndecodableError, naming the syntax, where no decoder here reads it."""
    named = syntax_name(transfer_syntax_uid) if transfer_syntax_uid else "none declared"
    if transfer_syntax_uid in VIDEO:
        if importlib.util.find_spec("cv2") is None:
            raise UndecodableError(
                Reason.UNSUPPORTED_TRANSFER_SYNTAX,
                f"Video is decoded only where the extra `video` is installed (make setup-video): {named}; "
                "install it, or send the cine as JPEG frames.",
            )
    elif transfer_syntax_uid not in {*NATIVE, *DECODING_PLUGIN, ENCAPSULATED_NATIVE}:
        raise UndecodableError(
            Reason.UNSUPPORTED_TRANSFER_SYNTAX,
            f"The transfer syntax is not decoded here: {named}; send the image uncompressed, or as JPEG, "
            "JPEG-LS, JPEG 2000 or RLE.",
        )


def pixel_layout(header: Dataset) -> PixelLayout:
    """Read and check the Image Pixel attributes of a header with file meta information.

    Raises
    ------
    UndecodableError
        The transfer syntax has no decoder, or an attribute is missing, zero or beyond its bound.
    """
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    require_decoder(syntax)
    missing = [keyword for keyword in _REQUIRED if header.get(keyword) in (None, "")]
    if missing:
        raise undecodable(f"The image lacks {', '.join(missing)}; send it again from its source.")
    bits_allocated = _whole_number(header, "BitsAllocated", 0)
    layout = PixelLayout(
        transfer_syntax_uid=syntax,
        photometric_interpretation=str(header.PhotometricInterpretation).strip().upper(),
        rows=_whole_number(header, "Rows", 0),
        columns=_whole_number(header, "Columns", 0),
        samples_per_pixel=_whole_number(header, "SamplesPerPixel", 0),
        number_of_frames=_whole_number(header, "NumberOfFrames", 1),
        bits_allocated=bits_allocated,
        bits_stored=_whole_number(header, "BitsStored", bits_allocated),
        planar_configuration=_whole_number(header, "PlanarConfiguration", 0),
    )
    _check_layout(layout, header)
    return layout


def _whole_number(header: Dataset, keyword: str, absent: int) -> int:
    value = header.get(keyword)
    if value in (None, ""):
        return absent
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):  # a damaged string, or several values where one belongs
        raise undecodable(f"{keyword} is no whole number; send the image again from its source.") from None


def _check_layout(layout: PixelLayout, header: Dataset) -> None:
    if layout.rows < 1 or layout.columns < 1 or layout.number_of_frames < 1:
        raise undecodable(
            f"The header declares {layout.columns} x {layout.rows} pixels and "
            f"{layout.number_of_frames} frames, so no image; correct it at its source."
        )
    if layout.rows * layout.columns > MAXIMUM_FRAME_PIXELS:
        raise undecodable(
            f"The header declares {layout.columns} x {layout.rows} pixels a frame, more than any ultrasound "
            "image has; correct it at its source."
        )
    if layout.samples_per_pixel not in (1, 3) or layout.bits_allocated not in (8, 16):
        raise undecodable(
            f"{layout.samples_per_pixel} samples a pixel of {layout.bits_allocated} bits are no ultrasound "
            "image (PS3.3 C.8.5.6.1); send it as an ultrasound image."
        )
    if not 1 <= layout.bits_stored <= layout.bits_allocated or header.get("PixelRepresentation"):
        raise undecodable(
            "Bits Stored or Pixel Representation do not fit an ultrasound image (PS3.3 C.8.5.6.1); "
            "correct it at its source."
        )


def cut_after(layout: PixelLayout, whole: int) -> UndecodableError:
    """The error for pixel data that ends after `whole` of the frames that the header declares."""
    return undecodable(
        f"Pixel data is cut: of {layout.number_of_frames} frames declared {whole} are whole; send it again."
    )
