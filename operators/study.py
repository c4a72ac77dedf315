"""The nouns of a study on its way in: instances, regions, frames, and what was set aside.

Promises: immutable values with units in their names. Refuses nothing by itself; the operators that
make these values check what they read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset

from operators.site import Source


class InputError(ValueError):
    """The input cannot be analysed at all. Its message names cause and remedy and holds no patient name."""

    code = "input-unusable"
    exit_status = 3


class NoStudyError(InputError):
    """Nothing in the input is a DICOM study."""

    code = "input-no-study"


class MixedPatientError(InputError):
    """One Study Instance UID carries two patients."""

    code = "input-mixed-patients"


class Reason(StrEnum):
    """Why something was not analysed. The values are stable: they reach results and logs."""

    NOT_DICOM = "not-dicom"
    UNREADABLE = "unreadable"
    MISSING_UID = "missing-uid"
    MALFORMED_UID = "malformed-uid"
    NOT_AN_IMAGE = "not-an-image"
    WRONG_MODALITY = "wrong-modality"
    NOT_BREAST = "not-breast"
    OWN_RESULT = "own-result"
    SECONDARY_CAPTURE = "secondary-capture"
    DUPLICATE_UID = "duplicate-uid-different-bytes"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported-transfer-syntax"
    PIXELS_UNDECODABLE = "pixels-undecodable"
    NO_TISSUE_REGION = "no-tissue-region"
    NO_TISSUE = "no-analysable-tissue"
    COLOUR = "colour-overlay"
    DOPPLER = "colour-doppler"
    ELASTOGRAPHY = "elastography"
    M_MODE = "m-mode"
    SPECTRUM = "spectral-doppler"
    VOLUME = "three-dimensional"
    SPLIT_SCREEN = "split-screen"
    NEEDLE = "needle-in-view"
    TEXT_SCREEN = "text-screen"
    SCREENSHOT = "screenshot"
    PHOTOGRAPH = "photograph"
    OTHER_ORGAN = "other-organ-by-pixels"
    TEST_OBJECT = "test-phantom"
    TOMOGRAPHY = "tomography"
    NOISE = "noise"
    NOT_BREAST_ULTRASOUND = "not-breast-ultrasound-by-pixels"
    FRAME_LIMIT = "frame-limit"
    IMAGE_LIMIT = "image-limit"


@dataclass(frozen=True)
class SetAside:
    """An instance, or one frame of it, that is not analysed, and why.

    `detail` is one sentence for a radiologist or IT: cause and, where there is one, remedy. It never
    holds a patient's name. `frame_number` is 1-based; None means the whole instance.
    """

    reason: Reason
    detail: str
    sop_instance_uid: str | None = None
    frame_number: int | None = None
    file_name: str | None = None

    @classmethod
    def of(cls, instance: Instance, frame_number: int | None, reason: Reason, detail: str) -> SetAside:
        """An instance (`frame_number` None) or one of its frames."""
        return cls(reason, detail, instance.sop_instance_uid, frame_number, instance.path.name)


@dataclass(frozen=True)
class Region:
    """A B-mode region of an image, in pixels of that image (PS3.3 C.8.5.5).

    Bounds are 0-based and inclusive. `mm_per_pixel_x`/`_y` are both None where the image carries no
    plausible calibration: then nothing is measured in millimetres. `stated`: the scanner itself gave the
    region, so its text strips are known to lie outside. `skin_y`: row of the image, as a coordinate, at which
    the scanner states that the depth is zero; None where it does not.
    """

    min_x0: int
    min_y0: int
    max_x1: int
    max_y1: int
    mm_per_pixel_x: float | None = None
    mm_per_pixel_y: float | None = None
    stated: bool = False
    skin_y: float | None = None

    @property
    def columns(self) -> int:
        """Width in pixels."""
        return self.max_x1 - self.min_x0 + 1

    @property
    def rows(self) -> int:
        """Height in pixels."""
        return self.max_y1 - self.min_y0 + 1

    @property
    def calibrated(self) -> bool:
        """Whether lengths inside the region can be given in millimetres."""
        return self.mm_per_pixel_x is not None and self.mm_per_pixel_y is not None


@dataclass(frozen=True)
class Instance:
    """One stored SOP Instance that may be analysed. `header` is its data set without pixel data."""

    path: Path
    sha256: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    rows: int
    columns: int
    number_of_frames: int
    header: Dataset = field(repr=False, compare=False)


@dataclass(frozen=True)
class Study:
    """The instances of one study as received, sorted by SOP Instance UID, and what was set aside.

    `header` holds the patient, study and general equipment attributes to be copied to results: the
    data set of the first instance (of any readable one where none can be analysed). `warnings` are
    sentences for report and status (identity conflicts, other bytes under a known UID, ...). `paths` are
    the files it was read from, and those of which no study is known.
    """

    study_instance_uid: str
    instances: tuple[Instance, ...]
    set_aside: tuple[SetAside, ...]
    header: Dataset = field(repr=False, compare=False)
    warnings: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One usable B-mode region of one frame: where its pixels are. `stream_pixels` reads them.

    `frame_number` is 1-based (1 for a single-frame instance). `laterality` is "L", "R" or None (unknown
    or contradictory), `clock_hour` 1 to 12 or None, each with the source that states it (`site.Source`).
    """

    instance: Instance
    frame_number: int
    region: Region
    laterality: str | None = None
    clock_hour: int | None = None
    laterality_source: Source | None = None
    clock_source: Source | None = None

    @property
    def key(self) -> tuple[str, int, int, int]:
        """Identity of the frame's region inside its study; sorts in reading order."""
        return (self.instance.sop_instance_uid, self.frame_number, self.region.min_x0, self.region.min_y0)


@dataclass(frozen=True)
class Selection:
    """What select_frames hands on: the usable frames of a study, and everything set aside so far.

    `screen_reader`: program, version and language that read the screens; None where none did.
    """

    study: Study
    frames: tuple[Frame, ...]
    set_aside: tuple[SetAside, ...]
    warnings: tuple[str, ...] = ()
    screen_reader: str | None = None
