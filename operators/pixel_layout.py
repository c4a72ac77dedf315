"""What a header says of its pixels, checked before a byte of them is read.

Promises: a PixelLayout is that of an ultrasound image (PS3.3 C.8.5.6.1), within bounds, in a transfer syntax
that `operators.decode` reads.
Refuses, by name: video, JPEG XL, JPIP and whatever else no decoder here reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import uid
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


def syntax_name(transfer_syntax_uid: str) -> str:
    """Name and UID of a transfer syntax for a message."""
    name = _NOT_IN_PYDICOM.get(transfer_syntax_uid) or uid.UID(transfer_syntax_uid).name
    return transfer_syntax_uid if name == transfer_syntax_uid else f"{name} ({transfer_syntax_uid})"


def require_decoder(transfer_syntax_uid: str) -> None:
    """Raise UndecodableError, naming the syntax, where no decoder here reads it."""
    if transfer_syntax_uid not in NATIVE and transfer_syntax_uid not in DECODING_PLUGIN:
        named = syntax_name(transfer_syntax_uid) if transfer_syntax_uid else "none declared"
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
    missing = [
        keyword
        for keyword in ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")
        if header.get(keyword) in (None, "")
    ]
    if missing:
        raise undecodable(f"The image lacks {', '.join(missing)}.")
    frames = header.get("NumberOfFrames")
    layout = PixelLayout(
        transfer_syntax_uid=syntax,
        photometric_interpretation=str(header.PhotometricInterpretation).strip().upper(),
        rows=int(header.Rows),
        columns=int(header.Columns),
        samples_per_pixel=int(header.SamplesPerPixel),
        number_of_frames=1 if frames in (None, "") else int(frames),
        bits_allocated=int(header.BitsAllocated),
        bits_stored=int(header.get("BitsStored") or header.BitsAllocated),
        planar_configuration=int(header.get("PlanarConfiguration") or 0),
    )
    _check_layout(layout, header)
    return layout


def _check_layout(layout: PixelLayout, header: Dataset) -> None:
    if layout.rows < 1 or layout.columns < 1 or layout.number_of_frames < 1:
        raise undecodable(
            f"The header declares {layout.columns} x {layout.rows} pixels and "
            f"{layout.number_of_frames} frames, so no image."
        )
    if layout.rows * layout.columns > MAXIMUM_FRAME_PIXELS:
        raise undecodable(
            f"The header declares {layout.columns} x {layout.rows} pixels a frame, more than any ultrasound "
            "image has."
        )
    if layout.samples_per_pixel not in (1, 3) or layout.bits_allocated not in (8, 16):
        raise undecodable(
            f"{layout.samples_per_pixel} samples a pixel of {layout.bits_allocated} bits are no ultrasound "
            "image (PS3.3 C.8.5.6.1)."
        )
    if not 1 <= layout.bits_stored <= layout.bits_allocated or header.get("PixelRepresentation"):
        raise undecodable(
            "Bits Stored or Pixel Representation do not fit an ultrasound image (PS3.3 C.8.5.6.1)."
        )
