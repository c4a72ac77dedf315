"""Find the lesions on the selected frames.

Promises: each frame is looked at alone; the pixels of a cine are read, looked at and let go one frame after
the other, so that memory does not grow with its length; a frame that the gate holds not to be breast
ultrasound is set aside, by its kind where that is clear, and nothing is said of it.

A cine is searched on its selected frames, then on every frame next to the key frames found, so that a key
frame is the best of its neighbourhood; at last the key frames alone are read again and outlined.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec, OutputContext

from models.runtime.components import Component
from models.runtime.lesion import Found, LesionModel
from models.runtime.marks import Covered, MarkModel
from operators.colour import Pixels
from operators.findings import Detections, LesionView, Track
from operators.follow_lesions import Sighting, Sightings, box_of, follow, key_sightings, overlap, sight
from operators.frame_pixels import stream_pixels
from operators.outline import measure, outline_of
from operators.pixel_layout import UndecodableError
from operators.study import Frame, Instance, Reason, Selection, SetAside

# Frames on which a lesion of a cine must be seen: one in ten frames, from one up to so many.
MINIMUM_SIGHTINGS = 3
_FRAMES_A_SIGHTING = 10


# What the gate's kinds are called in a report: the reason, and words that follow "like".
_KINDS: Mapping[str | None, tuple[Reason, str]] = {
    "noise": (Reason.NOISE, "noise"),
    "text": (Reason.TEXT_SCREEN, "a page of text"),
    "screen": (Reason.SCREENSHOT, "a computer's screen"),
    "photograph": (Reason.PHOTOGRAPH, "a photograph"),
    "tomography": (Reason.TOMOGRAPHY, "computed tomography or magnetic resonance"),
    "volume": (Reason.VOLUME, "a 3D rendering"),
    "m-mode": (Reason.M_MODE, "an M-mode tracing"),
    "spectrum": (Reason.SPECTRUM, "a Doppler spectrum"),
    "phantom": (Reason.TEST_OBJECT, "a test phantom"),
    "other-organ": (Reason.OTHER_ORGAN, "ultrasound of another organ"),
}


@dataclass
class _Search:
    """The models, and what came of the frames looked at so far."""

    model: LesionModel
    marks: MarkModel
    maximum_lesions_per_frame: int
    frames: list[Frame] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)

    def look(
        self, frames: Sequence[Frame], *, judge: bool = False
    ) -> Iterator[tuple[Frame, Pixels, Found, tuple[Component, ...]]]:
        """Each frame that is breast ultrasound, with its pixels and its lesions."""
        for frame, grey in stream_pixels(frames, judge=judge):
            found = self.model.find(grey)
            if not found.familiar:
                self.set_aside.append(_unfamiliar(frame, found.kind))
                continue
            self.frames.append(frame)
            yield frame, grey, found, found.lesions[: self.maximum_lesions_per_frame]


def find_lesions(
    selection: Selection, model: LesionModel, marks: MarkModel, *, maximum_lesions_per_frame: int
) -> Detections:
    """Run the lesion model on the frames of a selection; `marks` are covered on what is shown of them.

    A cine of which a frame beside a key frame turns out to be damaged is set aside whole, as one is by
    `select_frames`.
    """
    frames: list[Frame] = []
    tracks: list[Track] = []
    aside, warnings = list(selection.set_aside), list(selection.warnings)
    for _, group in itertools.groupby(sorted(selection.frames, key=_place), key=_instance_of):
        wanted, search = list(group), _Search(model, marks, maximum_lesions_per_frame)
        try:
            found, notes = _instance(wanted, search)
        except UndecodableError as error:
            aside = [one for one in aside if not _of_frames(one, wanted[0].instance)]
            aside.append(SetAside.of(wanted[0].instance, None, error.reason, error.detail))
            continue
        frames += search.frames
        aside += search.set_aside
        tracks += found
        warnings += notes
    return Detections(
        selection.study,
        tuple(sorted(set(frames), key=lambda frame: frame.key)),
        tuple(tracks),
        tuple(aside),
        tuple(warnings),
        selection.screen_reader,
    )


def _place(frame: Frame) -> tuple[str, int, int]:
    """What the frames of one region of one instance have in common."""
    return _instance_of(frame), frame.region.min_x0, frame.region.min_y0


def _instance_of(frame: Frame) -> str:
    return frame.instance.sop_instance_uid


def _of_frames(aside: SetAside, instance: Instance) -> bool:
    """Whether it speaks of frames of an instance: void once the whole instance is set aside."""
    of_frames = aside.frame_number is not None or aside.reason is Reason.FRAME_LIMIT
    return of_frames and aside.sop_instance_uid == instance.sop_instance_uid


def _instance(frames: Sequence[Frame], search: _Search) -> tuple[list[Track], list[str]]:
    """Tracks through all regions of one instance, and sentences on what was seen too briefly."""
    if frames[0].instance.number_of_frames == 1:
        return _still(frames, search), []
    tracks: list[Track] = []
    notes: list[str] = []
    for _, group in itertools.groupby(frames, key=_place):
        found, note = _cine(list(group), search)
        tracks += found
        notes += [note] if note else []
    return tracks, notes


def _still(frames: Sequence[Frame], search: _Search) -> list[Track]:
    return [
        Track((_view(frame, search.marks.cover(grey), found, one),), (frame.frame_number,))
        for frame, grey, found, lesions in search.look(frames)
        for one in lesions
    ]


def _cine(frames: Sequence[Frame], search: _Search) -> tuple[list[Track], str | None]:
    """Tracks through one region of a cine, and a sentence on what was seen too briefly to be one."""
    numbers = [frame.frame_number for frame in frames]
    step = max((after - before for before, after in itertools.pairwise(numbers)), default=1)
    sightings = _sightings(frames, search)
    nearby = _nearby(follow(sightings, step), frames, step)
    sightings += _sightings(nearby, search, judge=True)
    tracks = follow(sightings, step)
    needed = min(MINIMUM_SIGHTINGS, 1 + frames[0].instance.number_of_frames // _FRAMES_A_SIGHTING)
    lasting = [track for track in tracks if len(track) >= needed]
    keys = [key_sightings(track) for track in lasting]
    views = _key_views(keys, search)
    found = [
        Track(tuple(views[one] for one in chosen), tuple(one.frame.frame_number for one in track))
        for track, chosen in zip(lasting, keys, strict=True)
    ]
    return found, _fleeting(len(tracks) - len(lasting), needed)


def _sightings(frames: Sequence[Frame], search: _Search, *, judge: bool = False) -> list[Sighting]:
    return [
        sight(frame, grey, one.mask, one.score)
        for frame, grey, _, lesions in search.look(frames, judge=judge)
        for one in lesions
    ]


def _nearby(tracks: Sequence[Sightings], frames: Sequence[Frame], step: int) -> list[Frame]:
    """The frames between a key frame and its looked-at neighbours, longest tracks first.

    At most half as many as were looked at before, so that a cine full of findings takes bounded time.
    """
    seen = {frame.frame_number for frame in frames}
    last = frames[0].instance.number_of_frames
    numbers: list[int] = []
    for track in sorted(tracks, key=len, reverse=True):
        for one in key_sightings(track):
            centre = one.frame.frame_number
            numbers += range(max(1, centre - step + 1), min(last, centre + step - 1) + 1)
    fresh = [number for number in dict.fromkeys(numbers) if number not in seen]
    return [replace(frames[0], frame_number=number) for number in fresh[: max(1, len(frames) // 2)]]


def _key_views(keys: Sequence[Sightings], search: _Search) -> dict[Sighting, LesionView]:
    """The key frames read again, each once, and their lesions outlined."""
    wanted = [one for chosen in keys for one in chosen]
    again = _Search(search.model, search.marks, search.maximum_lesions_per_frame)
    views: dict[Sighting, LesionView] = {}
    for frame, grey, found, lesions in again.look(list({one.frame: None for one in wanted})):
        boxes, shown = [box_of(lesion.mask) for lesion in lesions], search.marks.cover(grey)
        for one in wanted:
            if one.frame == frame:
                shared = [overlap(one.box, box) for box in boxes]
                views[one] = _view(frame, shown, found, lesions[shared.index(max(shared))])
    return views


def _fleeting(count: int, needed: int) -> str | None:
    if not count:
        return None
    return (
        f"In a cine {count} place{'s' * (count != 1)} looked like a lesion on fewer than {needed} frames and "
        f"{'are' if count != 1 else 'is'} not reported."
    )


def _view(frame: Frame, shown: Covered, found: Found, lesion: Component) -> LesionView:
    outline = outline_of(lesion.mask, frame.region)
    return LesionView(
        frame=frame,
        outline=outline,
        shown=shown,
        mask=lesion.mask,
        clean=found.clean,
        detection_score=lesion.score,
        measurement=measure(outline, frame.region),
    )


def _unfamiliar(frame: Frame, kind: str | None) -> SetAside:
    reason, looks_like = _KINDS.get(kind, (Reason.NOT_BREAST_ULTRASOUND, None))
    detail = (
        "The picture does not look like the breast ultrasound that the models learned from"
        f"{f' but like {looks_like}' if looks_like else ''}; nothing is said of it."
    )
    several = frame.instance.number_of_frames > 1
    return SetAside.of(frame.instance, frame.frame_number if several else None, reason, detail)


class FindLesionsOperator(Operator):
    """Graph step: takes a selection on port `selection`, emits what was found on port `detections`."""

    def __init__(
        self,
        fragment: Any,
        *args: Any,
        model: LesionModel,
        marks: MarkModel,
        maximum_lesions_per_frame: int,
        **kwargs: Any,
    ) -> None:
        self._model, self._marks = model, marks
        self._maximum = maximum_lesions_per_frame
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("selection")
        spec.output("detections")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Find lesions on the frames received."""
        selection = op_input.receive("selection")
        detections = find_lesions(
            selection, self._model, self._marks, maximum_lesions_per_frame=self._maximum
        )
        op_output.emit(detections, "detections")
