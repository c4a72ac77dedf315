"""The studies of the demo: sample pictures dressed as what a scanner sends.

Promises: valid DICOM of invented patients; the pixels are those of the samples (NOTICE names their sources),
of patients no shipped model was trained on. The cine moves one picture; nothing else is changed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

SAMPLES = Path(__file__).parent / "samples"
CINE_FRAMES = 30
_STRIP = 24  # rows above the picture, as scanners have for text
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One study of the demo. `kind`: still, cine or jpeg; `cm_per_pixel` where the source publishes it."""

    name: str
    kind: str
    files: tuple[str, ...]
    truth: str
    source: str
    cm_per_pixel: float | None = None


@dataclass(frozen=True)
class SampleStudy:
    """A sample as DICOM files, in the order in which they are sent."""

    sample: Sample
    study_instance_uid: str
    paths: tuple[Path, ...]


def read_samples() -> tuple[Sample, ...]:
    """The samples that ship."""
    entries = json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8"))
    return tuple(Sample(**{**entry, "files": tuple(entry["files"])}) for entry in entries)


def make_study(
    sample: Sample, folder: Path, number: int, at: datetime, *, cine_frames: int = CINE_FRAMES
) -> SampleStudy:
    """Write the DICOM files of a sample into `folder`; `cine_frames` is the length of a cine."""
    study_uid, series_uid = generate_uid(), generate_uid()
    paths = []
    for place, name in enumerate(sample.files, start=1):
        with Image.open(SAMPLES / name) as picture:
            grey = np.asarray(picture.convert("L"))
        dataset = _image(grey, sample, at, cine_frames)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.PatientID, dataset.PatientName = f"DEMO{number}", f"Demo^{number}"
        dataset.AccessionNumber, dataset.StudyID = f"D{number:05d}", str(number)
        dataset.InstanceNumber = place
        paths.append(folder / f"{number}-{place}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return SampleStudy(sample, study_uid, tuple(paths))


def _image(grey: Grey, sample: Sample, at: datetime, cine_frames: int) -> FileDataset:
    cine = sample.kind == "cine"
    sop_class = UltrasoundMultiFrameImageStorage if cine else UltrasoundImageStorage
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = JPEGBaseline8Bit if sample.kind == "jpeg" else ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SeriesNumber = "US", 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.Manufacturer, dataset.ManufacturerModelName = "Demo scanner", "Demo"
    for prefix in ("Study", "Series", "Content"):
        setattr(dataset, f"{prefix}Date", f"{at:%Y%m%d}")
        setattr(dataset, f"{prefix}Time", f"{at:%H%M%S}")
    dataset.PatientBirthDate, dataset.PatientSex, dataset.ReferringPhysicianName = "", "", ""
    screen = np.pad(grey, ((_STRIP, 0), (0, 0)))
    _regions(dataset, grey, sample.cm_per_pixel)
    if cine:
        _native(
            dataset, np.stack([np.pad(frame, ((_STRIP, 0), (0, 0))) for frame in _moved(grey, cine_frames)])
        )
        dataset.FrameTime, dataset.FrameIncrementPointer = "40", 0x00181063
    elif sample.kind == "jpeg":
        _jpeg(dataset, screen)
    else:
        _native(dataset, screen[None])
    return dataset


def _regions(dataset: Dataset, grey: Grey, cm_per_pixel: float | None) -> None:
    """The B-mode region (PS3.3 C.8.5.5), with its scale where the sample has one."""
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, _STRIP
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = grey.shape[1] - 1, _STRIP + grey.shape[0] - 1
    known = cm_per_pixel is not None
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3 if known else 0
    region.PhysicalDeltaX = region.PhysicalDeltaY = cm_per_pixel if known else 0.0
    dataset.SequenceOfUltrasoundRegions = [region]


def _native(dataset: Dataset, frames: npt.NDArray[np.uint8]) -> None:
    _layout(dataset, frames.shape[1], frames.shape[2], "MONOCHROME2")
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    content = frames.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW"


def _jpeg(dataset: Dataset, screen: Grey) -> None:
    stream = io.BytesIO()
    Image.fromarray(screen).convert("RGB").save(stream, "JPEG", quality=92, subsampling="4:2:2")
    _layout(dataset, screen.shape[0], screen.shape[1], "YBR_FULL_422")
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", "ISO_10918_1"
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _layout(dataset: Dataset, rows: int, columns: int, photometric_interpretation: str) -> None:
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric_interpretation
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0


def _moved(grey: Grey, count: int) -> Sequence[Grey]:
    """A sweep over one picture: slowly shifted and zoomed, as a hand would move the probe."""
    picture = Image.fromarray(grey)
    frames = []
    for phase in np.linspace(0, 2 * np.pi, count, endpoint=False):
        zoom = 1 + 0.04 * (1 - np.cos(phase))
        x, y = 0.03 * grey.shape[1] * np.sin(phase), 0.02 * grey.shape[0] * (1 - np.cos(phase))
        matrix = (1 / zoom, 0, float(x) + (1 - 1 / zoom) * grey.shape[1] / 2, 0, 1 / zoom, float(y))
        moved = picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        frames.append(np.asarray(moved))
    return frames
