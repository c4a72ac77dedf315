"""Find the lesions on the selected frames.

Promises: each frame is looked at alone and gives its lesions in the order of their weight, with outline and
size; a frame that the gate holds not to be breast ultrasound is set aside and nothing is said of it.
"""

from __future__ import annotations

from typing import Any

from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec, OutputContext

from models.runtime.components import Component
from models.runtime.lesion import Found, LesionModel
from operators.findings import Detections, LesionView
from operators.outline import measure, outline_of
from operators.study import Frame, Reason, Selection, SetAside


def find_lesions(selection: Selection, model: LesionModel, *, maximum_lesions_per_frame: int) -> Detections:
    """Run the lesion model on every frame of a selection."""
    frames: list[Frame] = []
    views: list[LesionView] = []
    aside = list(selection.set_aside)
    for frame in selection.frames:
        found = model.find(frame.grey)
        if not found.familiar:
            aside.append(_unfamiliar(frame))
            continue
        frames.append(frame)
        views += [_view(frame, found, one) for one in found.lesions[:maximum_lesions_per_frame]]
    return Detections(selection.study, tuple(frames), tuple(views), tuple(aside), selection.warnings)


def _view(frame: Frame, found: Found, lesion: Component) -> LesionView:
    outline = outline_of(lesion.mask, frame.region)
    return LesionView(
        frame=frame,
        outline=outline,
        mask=lesion.mask,
        clean=found.clean,
        detection_score=lesion.score,
        measurement=measure(outline, frame.region),
    )


def _unfamiliar(frame: Frame) -> SetAside:
    several = frame.instance.number_of_frames > 1
    return SetAside(
        Reason.NOT_BREAST_ULTRASOUND,
        "The picture does not look like the breast ultrasound that the models learned from; nothing is said "
        "of it.",
        frame.instance.sop_instance_uid,
        frame.frame_number if several else None,
        frame.instance.path.name,
    )


class FindLesionsOperator(Operator):
    """Graph step: takes a selection on port `selection`, emits what was found on port `detections`."""

    def __init__(
        self,
        fragment: Any,
        *args: Any,
        model: LesionModel,
        maximum_lesions_per_frame: int,
        **kwargs: Any,
    ) -> None:
        self._model = model
        self._maximum = maximum_lesions_per_frame
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("selection")
        spec.output("detections")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Find lesions on the frames received."""
        selection = op_input.receive("selection")
        detections = find_lesions(selection, self._model, maximum_lesions_per_frame=self._maximum)
        op_output.emit(detections, "detections")
