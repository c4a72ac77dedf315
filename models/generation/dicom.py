"""Generated pictures as DICOM ultrasound studies, so that an integration is tested with no patient in sight.

Promises: every value of a header is made here and says so; UIDs follow from the rows, so the same
repository gives the same files; nothing is written into the region of the picture, only into a strip above
it that lies in no region. Pictures that have painted marks are left out.

What is made up beyond the row: names, dates, side and clock position, and the scale (as if the picture that
a frame is cut from were 4 cm wide). PS3.3 A.6 and A.7 (ultrasound image, multi-frame), C.8.5.5 (regions),
C.12.1 (Synthetic Data).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from models.data.whole import whole_file, write_whole
from models.generation.draw import Row
from models.generation.repository import picture_paths, png_of, read_picture, read_rows

MAKER: Final = "busmap generator"  # not "busmap": what the node made itself it does not analyse
SIDE, STRIP = 256, 32  # px of the region, and of the strip above it
CINE_FRAMES, FRAME_TIME_MS = 6, 40
DATE, TIME = "20260101", "120000"
_WINDOW = 0.9  # of the picture's side is seen at once in a cine
_WIDTH_CM = 4.0  # of the whole picture, made up
_NOTE = "GENERATED  NO PATIENT"
_STREAM = 3  # of an image's seed; those of `draw` are below
_SECOND_VIEW, _CINE = 0.5, 0.125  # shares of studies
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class GeneratedStudy:
    """One study to be made: its number from 1, the rows of its one or two views, what is made up about it."""

    number: int
    rows: tuple[Row, ...]
    laterality: str
    clock_hour: int
    cine: bool

    @property
    def key(self) -> str:
        """SHA-256 of the rows: what all UIDs are derived from."""
        return hashlib.sha256(json.dumps([asdict(row) for row in self.rows]).encode()).hexdigest()


@dataclass(frozen=True)
class Written:
    """One file of a study, the outline of what it shows, and the row that it shows."""

    path: Path
    outline: Path
    study_instance_uid: str
    sop_instance_uid: str
    row: Row


def plan_studies(rows: Sequence[Row]) -> Iterator[GeneratedStudy]:
    """Studies from rows in their order; two views show rows of one class. Each row is used once at most."""
    plain = [row for row in rows if not (row.callipers or row.text)]
    waiting: defaultdict[str, deque[Row]] = defaultdict(deque)
    for row in plain:
        waiting[row.lesion_class].append(row)
    number = 0
    for first in plain:
        alike = waiting[first.lesion_class]
        if not alike or alike[0] is not first:  # it is the second view of an earlier study
            continue
        alike.popleft()
        random = np.random.default_rng([_STREAM, first.seed])
        second, cine, side = random.random(3)
        hour = int(random.integers(1, 13))
        views = [first]
        if second < _SECOND_VIEW and alike:
            views.append(alike.popleft())
        number += 1
        yield GeneratedStudy(number, tuple(views), "L" if side < 0.5 else "R", hour, bool(cine < _CINE))


def write_studies(repository: Path, out: Path, most: int | None = None) -> Iterator[Written]:
    """Write the studies of a repository, `most` of them, and say of each file what it is.

    A view is OUT/NNNN/V.dcm; OUT/NNNN/V.png, 0 and 255, is its outline in pixels of the image, in a cine of
    its first frame.

    Raises
    ------
    DataError
        The folder holds no repository.
    """
    for study in plan_studies(read_rows(repository)):
        if most is not None and study.number > most:
            break
        folder = out / f"{study.number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        for view, row in enumerate(study.rows, start=1):
            path, outline = folder / f"{view}.dcm", folder / f"{view}.png"
            picture, mask = (read_picture(file) for file in picture_paths(repository, row.index))
            seen = shown(mask, Image.Resampling.NEAREST, cine=study.cine and view == 1)[0]
            whole = np.pad(seen, ((STRIP, 0), (0, 0))) > 127
            write_whole(outline, png_of(whole))
            dataset = view_dataset(study, view, picture)
            with whole_file(path) as unfinished:
                dataset.save_as(unfinished, enforce_file_format=True)
            yield Written(path, outline, dataset.StudyInstanceUID, dataset.SOPInstanceUID, row)


def view_dataset(study: GeneratedStudy, view: int, picture: Grey) -> FileDataset:
    """One view, from 1, of a study as a DICOM object. `picture`: uint8 (s, s). The first may be a cine."""
    row, cine = study.rows[view - 1], study.cine and view == 1
    sop_class = UltrasoundMultiFrameImageStorage if cine else UltrasoundImageStorage
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = UID(_uid(study.key, f"image {view}"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.SyntheticData = "YES"
    _study_header(dataset, study)
    dataset.InstanceNumber = view
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = "Pixels drawn by a generative model; no patient was imaged"
    dataset.ImageComments = _comment(row)
    dataset.BurnedInAnnotation = "NO"  # the strip names no patient (PS3.3 C.7.6.1.1.8)
    dataset.PatientOrientation = ""
    dataset.ImageLaterality = study.laterality
    dataset.AnatomicRegionSequence = [_breast(study.clock_hour)]
    dataset.SequenceOfUltrasoundRegions = [_region(row, _WINDOW if cine else 1.0)]
    dataset.LossyImageCompression = "00"
    frames = shown(picture, Image.Resampling.BICUBIC, cine=cine)
    _pixels(dataset, np.stack([screen(frame) for frame in frames]))
    return dataset


def _study_header(dataset: Dataset, study: GeneratedStudy) -> None:
    """Patient, study, series and equipment: the same in all views."""
    dataset.PatientName, dataset.PatientID = f"GENERATED^{study.number:04d}", f"GENERATED-{study.key[:12]}"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.ReferringPhysicianName = "", "", ""
    dataset.PatientComments = "Generated, no patient"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _uid(study.key, "study"), _uid(study.key, "series")
    dataset.StudyID, dataset.AccessionNumber = str(study.number), f"G{study.number:07d}"
    dataset.StudyDescription = "Breast ultrasound (generated, no patient)"
    dataset.SeriesDescription = "Generated, no patient"
    dataset.Modality, dataset.SeriesNumber, dataset.BodyPartExamined = "US", 1, "BREAST"
    for prefix in ("Study", "Series", "Content"):
        setattr(dataset, f"{prefix}Date", DATE)
        setattr(dataset, f"{prefix}Time", TIME)
    dataset.Manufacturer, dataset.ManufacturerModelName = MAKER, "latent flow"
    dataset.SoftwareVersions = version("busmap")
    maker = Dataset()
    maker.PurposeOfReferenceCodeSequence = [_item(codes.DCM.ProcessingEquipment)]
    maker.Manufacturer, maker.ManufacturerModelName = MAKER, "latent flow"
    maker.SoftwareVersions = dataset.SoftwareVersions
    maker.ContributionDescription = "Generated every pixel and header; no patient"
    dataset.ContributingEquipmentSequence = [maker]


def _comment(row: Row) -> str:
    asked = f"{row.lesion_class}, as of {row.device}, BI-RADS {row.birads}, histology {row.histology}"
    adapter = f", adapter {row.adapter[:16]}" if row.adapter else ""
    return (
        f"Generated, no patient. Asked for: {asked}. "
        f"Image {row.index}, seed {row.seed}, model {row.model[:16]}{adapter}. "
        "Scale, side and clock position are made up."
    )


def _breast(clock_hour: int) -> Dataset:
    """The breast with its position on the clock face (CID 6018)."""
    region = _item(codes.SCT.Breast)
    region.AnatomicRegionModifierSequence = [_item(getattr(codes.cid6018, f"_{clock_hour}OClockPosition"))]
    return region


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _region(row: Row, window: float) -> Dataset:
    """Two-dimensional tissue below the strip (PS3.3 C.8.5.5), with a scale that is made up."""
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, STRIP
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = SIDE - 1, STRIP + SIDE - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = round(row.zoom * window * _WIDTH_CM / SIDE, 6)
    return region


def screen(frame: Grey) -> Grey:
    """The picture, uint8 (SIDE, SIDE), below the strip with its note: (STRIP + SIDE, SIDE)."""
    strip = Image.new("L", (SIDE, STRIP), 0)
    ImageDraw.Draw(strip).text((6, 8), _NOTE, fill=220, font=ImageFont.load_default(size=14))
    return np.concatenate([np.asarray(strip), frame])


def shown(picture: Grey, resample: Image.Resampling, *, cine: bool) -> list[Grey]:
    """The frames, uint8 (SIDE, SIDE), of a picture, uint8 (s, s): itself, or a window moving over it."""
    whole = Image.fromarray(picture)
    side = picture.shape[0]
    if not cine:
        return [np.asarray(whole.resize((SIDE, SIDE), resample))]
    window, frames = _WINDOW * side, []
    for phase in np.linspace(0, 2 * np.pi, CINE_FRAMES, endpoint=False):
        left, top = (side - window) * (1 + float(np.sin(phase))) / 2, (side - window) / 2
        box = (left, top, left + window, top + window)
        frames.append(np.asarray(whole.resize((SIDE, SIDE), resample, box=box)))
    return frames


def _pixels(dataset: FileDataset, frames: Grey) -> None:
    """Frames, uint8 (n, rows, columns), compressed without loss."""
    dataset.Rows, dataset.Columns = frames.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    if dataset.SOPClassUID == UltrasoundMultiFrameImageStorage:
        dataset.NumberOfFrames = len(frames)
        dataset.FrameTime, dataset.FrameIncrementPointer = str(FRAME_TIME_MS), 0x00181063
    dataset.compress(JPEGLSLossless, frames if len(frames) > 1 else frames[0], generate_instance_uid=False)


def _uid(key: str, what: str) -> str:
    """A UID of this study (PS3.5 B.2), the same whenever the same rows are written."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'busmap generated {key} {what}').int}"
