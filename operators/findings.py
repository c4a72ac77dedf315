"""The nouns of what was found: outlines, measurements, lesions, assessments, and the study's result.

Promises: immutable values with units in their names; coordinates are image pixels (column, row) with
0.0 at the outer edge of the top left pixel, as in a DICOM SCOORD (PS3.3 C.18.6).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.runtime.marks import Covered
from operators.site import Source, joint_source
from operators.study import Frame, SetAside, Study


@dataclass(frozen=True)
class Measurement:
    """Size and place of an outline inside one calibrated region (millimetres, square millimetres).

    `width_mm` and `height_mm`: across and along the beam. `depth_mm`: from the skin to the nearest edge,
    None where the scanner does not state where the skin is. `cut`: the outline reaches the edge of the
    region, so the lesion may go on beyond it and its sizes are lower bounds.
    """

    long_axis_mm: float
    short_axis_mm: float
    area_mm2: float
    width_mm: float
    height_mm: float
    depth_mm: float | None = None
    cut: bool = False

    @property
    def parallel(self) -> bool | None:
        """Whether the lesion is wider than tall; None where it may go on beyond the picture.

        ACR BI-RADS Atlas, 5th edition, ultrasound, orientation: parallel to the skin ("wider than tall"), or
        not parallel, which a round mass is too.
        """
        return None if self.cut else self.width_mm > self.height_mm


@dataclass(frozen=True)
class LesionView:
    """A lesion as seen on one frame, with that frame's pixels: a still, or a key frame of a cine.

    `outline` is float32 (n, 2), n >= 3: (column, row) in pixels of the whole image, not repeated at the
    end. `shown.grey` and `clean` are uint8, `mask` bool, all (region.rows, region.columns): the region as it
    may be shown, its burnt-in marks covered; the same with its marks suppressed for the networks; the
    lesion's pixels. `detection_score` in 0..1.
    `malignancy_logit` is the classifier's raw output on this view, None before assessment. `measurement` is
    None where the region is not calibrated.
    """

    frame: Frame
    outline: npt.NDArray[np.float32] = field(repr=False, compare=False)
    shown: Covered = field(repr=False, compare=False)
    mask: npt.NDArray[np.bool_] = field(repr=False, compare=False)
    clean: npt.NDArray[np.uint8] = field(repr=False, compare=False)
    detection_score: float
    measurement: Measurement | None = None
    malignancy_logit: float | None = None


@dataclass(frozen=True)
class Track:
    """A lesion followed through one region of one instance; of a still, its one view.

    `views` are those of the key frames, best first. `frame_numbers` (1-based, ascending) are all frames on
    which it was seen.
    """

    views: tuple[LesionView, ...]
    frame_numbers: tuple[int, ...]


@dataclass(frozen=True)
class Detections:
    """What find_lesions hands on: the lesions of each instance, and the frames really analysed.

    `screen_reader` as in `Selection`.
    """

    study: Study
    frames: tuple[Frame, ...]
    tracks: tuple[Track, ...]
    set_aside: tuple[SetAside, ...]
    warnings: tuple[str, ...] = ()
    screen_reader: str | None = None


CATEGORIES = ("3", "4A", "4B", "4C", "5")  # BI-RADS-aligned, lowest likelihood of malignancy first


@dataclass(frozen=True)
class Assessment:
    """Probability of malignancy of one lesion, 0..1, with its Venn-Abers pair, and what follows from it.

    `category` is one of CATEGORIES or None where the interval supports none. `above_sensitive_threshold` /
    `above_specific_threshold`: the probability reaches the frozen operating point of 95% sensitivity / 90%
    specificity. `deciding_ceiling`: the upper limit of what the calibration data allow, 0..1, where it and
    not the pair decides the category, or that there is none.
    """

    probability: float
    probability_low: float
    probability_high: float
    category: str | None
    above_sensitive_threshold: bool
    above_specific_threshold: bool
    deciding_ceiling: float | None = None


@dataclass(frozen=True)
class Lesion:
    """One lesion of the study, seen in one or more tracks.

    `number` counts from 1, highest probability first. `clock_hour`: where all views that state one agree.
    """

    number: int
    tracks: tuple[Track, ...]
    assessment: Assessment
    laterality: str | None = None
    clock_hour: int | None = None

    @property
    def views(self) -> tuple[LesionView, ...]:
        """All views, in reading order: those of stills, and of the key frames of cines."""
        views = [view for track in self.tracks for view in track.views]
        return tuple(sorted(views, key=lambda view: view.frame.key))

    @property
    def site_sources(self) -> tuple[Source | None, Source | None]:
        """Where the side and the clock position of this lesion come from."""
        frames = [view.frame for view in self.views]
        return (
            joint_source(frame.laterality_source for frame in frames),
            joint_source(frame.clock_source for frame in frames),
        )

    @property
    def coded_site(self) -> tuple[str | None, int | None]:
        """Side and clock position as far as a header states them: what a report may code.

        What the screen alone says is read by a program that errs, so it stands in words with its source.
        """
        side_source, clock_source = self.site_sources
        return (
            None if side_source is Source.SCREEN else self.laterality,
            None if clock_source is Source.SCREEN else self.clock_hour,
        )

    @property
    def image_views(self) -> tuple[LesionView, ...]:
        """The best view of each track, in reading order."""
        return tuple(sorted((track.views[0] for track in self.tracks), key=lambda view: view.frame.key))

    @property
    def key_view(self) -> LesionView:
        """The view shown in the capture: the best seen one."""
        return max(self.image_views, key=lambda view: (view.detection_score, view.frame.key))


@dataclass(frozen=True)
class ModelIdentity:
    """Which model ran, on which engine: what a report names (TID 4019)."""

    name: str
    version: str
    sha256: str
    engine: str
    precision: str


@dataclass(frozen=True)
class StudyResult:
    """Everything a report says of one study.

    `settings_digest` identifies the settings that shaped it; `screen_reader` as in `Selection`.
    """

    study: Study
    lesions: tuple[Lesion, ...]
    frames: tuple[Frame, ...]
    set_aside: tuple[SetAside, ...]
    models: tuple[ModelIdentity, ...]
    settings_digest: str
    warnings: tuple[str, ...] = ()
    screen_reader: str | None = None

    @property
    def probability(self) -> float | None:
        """The study's probability of malignancy: that of its most suspicious lesion; None without one."""
        return max((lesion.assessment.probability for lesion in self.lesions), default=None)
