"""DICOM files made for tests: a speckle phantom in the headers and encodings a test asks for."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

US, US_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def uid(text: str) -> str:
    """A UID that is the same for the same text."""
    return "2.25." + str(int.from_bytes(hashlib.sha256(text.encode()).digest()[:15], "big"))


def speckle(rows: int = 64, columns: int = 64, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Grey speckle, uint8 (rows, columns)."""
    generator = np.random.default_rng(seed)
    return np.clip(60 * generator.rayleigh(size=(rows, columns)), 10, 255).astype(np.uint8)


def region(x0: int, y0: int, x1: int, y1: int, delta: float = 0.01, **more: Any) -> Dataset:
    """One item of SequenceOfUltrasoundRegions: tissue in cm unless told otherwise."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = delta
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


def image(pixels: npt.NDArray[Any], name: str = "image", study: str = "study", **more: Any) -> Dataset:
    """A data set with file meta information around (rows, columns[, 3]) or, for a cine, (frames, ...)."""
    colour = pixels.shape[-1] == 3
    cine = pixels.ndim == (4 if colour else 3)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = US_MULTIFRAME if cine else US, uid(name)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(study), uid(study + "series")
    ds.Modality, ds.Manufacturer = "US", "Phantom"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "TEST^PHANTOM", "P1", "19700101", "F"
    ds.BodyPartExamined = "BREAST"
    shape = pixels.shape[1:] if cine else pixels.shape
    if cine:
        ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = pixels.shape[0], 40.0, 0x00181063
    ds.Rows, ds.Columns, ds.SamplesPerPixel = shape[0], shape[1], 3 if colour else 1
    if colour:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    data = pixels.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def with_regions(ds: Dataset, *items: Dataset) -> Dataset:
    """The data set with its ultrasound regions."""
    ds.SequenceOfUltrasoundRegions = Sequence(items)
    return ds


def save(ds: Dataset, path: Path) -> Path:
    """Write the data set as a DICOM file."""
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", US)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", uid("none"))
    syntax = ds.file_meta.TransferSyntaxUID
    if "PixelData" in ds:
        ds["PixelData"].VR = "OB" if syntax.is_compressed or ds.BitsAllocated == 8 else "OW"
        ds["PixelData"].is_undefined_length = syntax.is_encapsulated
    ds.save_as(path, enforce_file_format=True)
    return path


def compressed(ds: Dataset, frames: list[bytes], transfer_syntax_uid: str, photometric: str = "") -> Dataset:
    """The data set with frames that are compressed already."""
    ds.PixelData = encapsulate(frames)
    ds.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    ds.PhotometricInterpretation = photometric or ds.PhotometricInterpretation
    return ds


def jpeg(pixels: npt.NDArray[np.uint8], **options: Any) -> bytes:
    """A JPEG stream as Pillow writes it: with a JFIF marker, colours as YCbCr."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=98, subsampling=0, **options)
    return buffer.getvalue()


def nested(levels: int, *, undefined_length: bool = False) -> bytes:
    """An element (0040,A730) with sequences nested so deep, explicit little endian."""
    data = b""
    for _ in range(levels):
        item, tail = (0xFFFFFFFF, b"\xfe\xff\x0d\xe0\0\0\0\0") if undefined_length else (len(data), b"")
        inner = struct.pack("<HHI", 0xFFFE, 0xE000, item) + data + tail
        whole, tail = (0xFFFFFFFF, b"\xfe\xff\xdd\xe0\0\0\0\0") if undefined_length else (len(inner), b"")
        data = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, whole) + inner + tail
    return data


def insert_before_pixels(path: Path, data: bytes) -> Path:
    """Put raw bytes before the Pixel Data element of an uncompressed explicit little endian file."""
    whole = path.read_bytes()
    at = whole.rfind(b"\xe0\x7f\x10\x00OB")
    path.write_bytes(whole[:at] + data + whole[at:])
    return path
