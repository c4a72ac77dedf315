"""Pick the frames of a study that show B-mode tissue and hand on where they are, not their pixels.

Promises: cines are streamed, evenly spread frames of them are kept, one decoded picture is in memory at a
time and none when it ends; a frame is the inside of a region, so text around it stays out; everything left
out has a reason, said once for an instance where all of it shares that reason.
Of a split screen the B-mode half is kept where a clear border divides it from the other.
Refuses: frames of an instance of which one is damaged; colour Doppler, elastography, M-mode, spectra,
needles, text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec, OutputContext

from operators.colour import Pixels
from operators.decode import decode_frames
from operators.panels import split
from operators.pixel_layout import UndecodableError
from operators.regions import RegionReading, content_region, read_regions
from operators.screen_text import ScreenReader, StudyScreens
from operators.site import StatedSite, site_of
from operators.study import Frame, Instance, Reason, Region, Selection, SetAside, Study
from operators.tissue import crop, luma, not_grey, unusable, without_tissue


@dataclass
class _Picked:
    """What one instance gave so far."""

    frames: list[Frame] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    # Of the pictures on its first frame, each with how many its region was cut into.
    places: tuple[tuple[Region, int], ...] = ()


def select_frames(
    study: Study,
    *,
    maximum_frames_per_instance: int,
    maximum_frames_per_study: int,
    reader: ScreenReader | None = None,
) -> Selection:
    """Select the usable frames of a study.

    Parameters
    ----------
    study : Study
        As `load_study` returns it.
    maximum_frames_per_instance, maximum_frames_per_study : int
        At least 1. Stills come first; cines share what they leave, evenly spread over their length.
    reader : ScreenReader or None
        Reads side and clock position off the first usable picture of each instance; None reads none.

    Returns
    -------
    Selection
        Frames in reading order; `set_aside` and `warnings` include those of the study.
    """
    shares = _shares(study.instances, maximum_frames_per_instance, maximum_frames_per_study)
    frames: list[Frame] = []
    screens = StudyScreens(reader)
    aside, warnings = list(study.set_aside), list(study.warnings)
    for instance in study.instances:
        share = shares[instance.sop_instance_uid]
        if share == 0:
            aside.append(_limited(instance, share))
            continue
        picked = _pick(instance, evenly_spread(instance.number_of_frames, share), screens)
        frames += picked.frames
        aside += _said_once(instance, picked, share)
        warnings += picked.warnings
        if picked.frames and share < instance.number_of_frames:
            aside.append(_limited(instance, share))
    return Selection(
        study,
        tuple(sorted(frames, key=lambda one: one.key)),
        tuple(aside),
        tuple(dict.fromkeys([*warnings, *screens.notes])),
        screens.identity,
    )


def evenly_spread(number_of_frames: int, share: int) -> tuple[int, ...]:
    """`share` frame numbers (1-based) at even distances, each in the middle of its stretch of the cine."""
    share = min(share, number_of_frames)
    return tuple((2 * place + 1) * number_of_frames // (2 * share) + 1 for place in range(share))


def _shares(instances: Sequence[Instance], per_instance: int, per_study: int) -> Mapping[str, int]:
    """How many frames of each instance are looked at: shortest first, the rest shared evenly."""
    shares: dict[str, int] = {}
    left = per_study
    ordered = sorted(instances, key=lambda one: (one.number_of_frames, one.sop_instance_uid))
    for place, instance in enumerate(ordered):
        fair = max(left // (len(ordered) - place), min(left, 1))
        shares[instance.sop_instance_uid] = min(instance.number_of_frames, per_instance, fair)
        left -= shares[instance.sop_instance_uid]
    return shares


def _limited(instance: Instance, share: int) -> SetAside:
    reason = Reason.FRAME_LIMIT if share else Reason.IMAGE_LIMIT
    if share:
        detail = (
            f"Of {instance.number_of_frames} frames {share}, evenly spread, were looked at; the limits are "
            "the settings analysis.maximum_frames_per_instance and analysis.maximum_frames_per_study."
        )
    else:
        detail = "The study has more images than the setting analysis.maximum_frames_per_study allows."
    return SetAside(reason, detail, instance.sop_instance_uid, None, instance.path.name)


def _pick(instance: Instance, frame_numbers: Sequence[int], screens: StudyScreens) -> _Picked:
    """Decode the wanted frames of one instance and keep their usable regions."""
    picked = _Picked()
    reading = read_regions(instance.header)
    picked.warnings += reading.warnings
    whole = _unusable_by_header(reading)
    if whole:
        picked.set_aside.append(SetAside.of(instance, None, *whole))
        return picked
    try:
        stated = None
        for number, pixels in decode_frames(instance.path, instance.header, frame_numbers):
            for region, verdict in _judged(pixels, reading, picked):
                if region is None or verdict is not None:
                    picked.set_aside.append(SetAside.of(instance, number, *(verdict or _no_content())))
                else:
                    if stated is None:
                        stated = site_of(instance.header, screens.read(luma(pixels)))
                        picked.warnings += stated.notes
                    picked.frames.append(_frame(instance, number, region, stated))
    except UndecodableError as error:
        # A cine with a damaged frame may be damaged elsewhere too: none of it is trusted.
        return _Picked([], [SetAside.of(instance, None, error.reason, error.detail)], picked.warnings)
    return picked


def _frame(instance: Instance, number: int, region: Region, stated: StatedSite) -> Frame:
    site = stated.site
    sources = stated.laterality_source, stated.clock_source
    return Frame(instance, number, region, site.laterality, site.clock_hour, *sources)


def _unusable_by_header(reading: RegionReading) -> tuple[Reason, str] | None:
    if reading.regions:
        return None
    if reading.under_colour:
        return (
            Reason.COLOUR,
            "A colour box (Doppler or elastography) covers the B-mode region; only plain B-mode is analysed.",
        )
    if reading.only_other_kinds:
        return (
            Reason.NO_TISSUE_REGION,
            "None of the image's regions is two-dimensional tissue (M-mode, spectrum, waveform or graphics).",
        )
    return None


def _judged(
    pixels: Pixels, reading: RegionReading, picked: _Picked
) -> Iterator[tuple[Region | None, tuple[Reason, str] | None]]:
    """Each picture of a frame with the reason against it, if any.

    Without regions in the header the box around the speckle is taken. Where the pictures of a split screen
    lie is told from the first frame, the same for all frames of a cine, so that a place means one tissue.
    """
    if not picked.places:
        picked.places = _places(luma(pixels), reading)
    if not picked.places:
        yield None, without_tissue(luma(pixels)) or not_grey(pixels)
        return
    divided = len(picked.places) - max(len(reading.regions), 1)
    for region, parts in picked.places:
        verdict = _too_many() if divided > 1 else unusable(crop(pixels, region))
        if verdict is not None and parts > 1 and divided == 1:
            verdict = (Reason.SPLIT_SCREEN, f"Of a split screen one half is not analysed: {verdict[1]}")
        yield region, verdict


def _places(grey: Pixels, reading: RegionReading) -> tuple[tuple[Region, int], ...]:
    """The regions of the header, else the box around the speckle, each cut where it holds two pictures."""
    found = content_region(grey)
    regions = reading.regions or ((found,) if found else ())
    cut = [split(crop(grey, region), region) for region in regions]
    return tuple((part, len(parts)) for parts in cut for part in parts)


def _too_many() -> tuple[Reason, str]:
    return (
        Reason.SPLIT_SCREEN,
        "More than two pictures on one screen (views of a 3D volume, or a comparison): which is plain B-mode "
        "is not certain.",
    )


def _no_content() -> tuple[Reason, str]:
    return Reason.NO_TISSUE, "The picture shows no coherent area of tissue."


def _said_once(instance: Instance, picked: _Picked, looked_at: int) -> list[SetAside]:
    """One line for an instance of which nothing is left for one reason; otherwise a line a frame."""
    reasons = {one.reason for one in picked.set_aside}
    if picked.frames or len(reasons) != 1 or len(picked.set_aside) == 1:
        if looked_at == 1 and instance.number_of_frames == 1 and not picked.frames:
            return [SetAside.of(instance, None, one.reason, one.detail) for one in picked.set_aside[:1]]
        return list(dict.fromkeys(picked.set_aside))
    first = picked.set_aside[0]
    return [SetAside.of(instance, None, first.reason, first.detail)]


class SelectFramesOperator(Operator):
    """Graph step: takes a study on port `study`, emits the selection on port `selection`."""

    def __init__(
        self,
        fragment: Any,
        *args: Any,
        maximum_frames_per_instance: int,
        maximum_frames_per_study: int,
        reader: ScreenReader | None = None,
        **kwargs: Any,
    ) -> None:
        self._reader = reader
        self._limits = {
            "maximum_frames_per_instance": maximum_frames_per_instance,
            "maximum_frames_per_study": maximum_frames_per_study,
        }
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("study")
        spec.output("selection")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Select the frames of the study received."""
        study = op_input.receive("study")
        op_output.emit(select_frames(study, reader=self._reader, **self._limits), "selection")
