"""Join views to lesions and judge each lesion once: probability, interval, category.

Promises: a lesion has one probability, from the mean of its images' logits (of a cine's frames first, so
that a long cine weighs no more than a still); the interval is the Venn-Abers pair of patients the network
had not seen. A category is BI-RADS-aligned, not an assessment: never 2, and 3 only where the upper bound
allows it. BI-RADS is a registered name of the American College of Radiology.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec, OutputContext

from models.runtime.diagnosis import DiagnosisModel, Judgement
from models.runtime.loaded import Models
from operators.findings import Assessment, Detections, Lesion, LesionView, ModelIdentity, StudyResult
from operators.join_views import Track, join_views

# Upper bounds of the likelihood of malignancy (ACR BI-RADS Atlas, 5th edition): 3 up to 2%, 4A up to 10%,
# 4B up to 50%, 4C below 95%, 5 from there.
CATEGORIES = ("3", "4A", "4B", "4C", "5")
_BOUNDS = (0.02, 0.10, 0.50, 0.95)


def assess_lesions(
    detections: Detections, models: Models, *, malignant_prevalence: float, settings_digest: str
) -> StudyResult:
    """Judge what was found.

    Parameters
    ----------
    malignant_prevalence : float
        Share of malignant lesions that the site expects, 0..1; probabilities are shifted to it.
    settings_digest : str
        Identifies the settings that shape the result.
    """
    views = _with_logits(detections.views, models.diagnosis)
    lesions = [(track, _assess(track, models.judgement, malignant_prevalence)) for track in join_views(views)]
    lesions.sort(key=lambda one: (-one[1].probability, one[0][0].frame.key))
    return StudyResult(
        study=detections.study,
        lesions=tuple(
            Lesion(number, track, assessment, track[0].frame.laterality, _clock_hour(track))
            for number, (track, assessment) in enumerate(lesions, start=1)
        ),
        frames=detections.frames,
        set_aside=detections.set_aside,
        models=tuple(
            ModelIdentity(
                bundle.name, bundle.version, bundle.sha256, models.engine.engine, models.engine.precision
            )
            for bundle in models.bundles
        ),
        settings_digest=settings_digest,
        warnings=detections.warnings,
    )


def category(low: float, probability: float, high: float) -> str | None:
    """BI-RADS-aligned category of a probability with its interval, all in 0..1.

    None where the interval reaches over more than two categories: it then supports none. The category of
    the probability otherwise, but 3 only if the upper bound stays within it, and 5 only if the lower does.
    """
    lowest, middle, highest = (_band(value) for value in (low, probability, high))
    if highest - lowest > 1:
        return None
    if middle == 0 and highest > 0:
        middle = 1
    if middle == len(_BOUNDS) and lowest < len(_BOUNDS):
        middle -= 1
    return CATEGORIES[middle]


def _band(probability: float) -> int:
    if probability >= _BOUNDS[-1]:
        return len(_BOUNDS)
    return next(index for index, bound in enumerate(_BOUNDS) if probability <= bound)


def _with_logits(views: Sequence[LesionView], model: DiagnosisModel) -> list[LesionView]:
    return [replace(view, malignancy_logit=model.logits(view.clean, [view.mask])[0]) for view in views]


def _clock_hour(track: Track) -> int | None:
    hours = {view.frame.clock_hour for view in track} - {None}
    return hours.pop() if len(hours) == 1 else None


def _assess(track: Track, judgement: Judgement, prevalence: float) -> Assessment:
    logits: dict[str, list[float]] = {}
    for view in track:
        if view.malignancy_logit is not None:
            logits.setdefault(view.frame.instance.sop_instance_uid, []).append(view.malignancy_logit)
    logit = float(np.mean([np.mean(values) for values in logits.values()]))
    given = judgement.calibration.probability(logit, prevalence)
    return Assessment(
        probability=given.value,
        probability_low=given.low,
        probability_high=given.high,
        category=category(given.low, given.value, given.high),
        above_sensitive_threshold=logit >= judgement.points.sensitive_logit,
        above_specific_threshold=logit >= judgement.points.specific_logit,
    )


class AssessLesionsOperator(Operator):
    """Graph step: takes what was found on port `detections`, emits the study's result on port `result`."""

    def __init__(
        self,
        fragment: Any,
        *args: Any,
        models: Models,
        malignant_prevalence: float,
        settings_digest: str,
        **kwargs: Any,
    ) -> None:
        self._models = models
        self._prevalence = malignant_prevalence
        self._digest = settings_digest
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("detections")
        spec.output("result")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Judge the lesions received."""
        result = assess_lesions(
            op_input.receive("detections"),
            self._models,
            malignant_prevalence=self._prevalence,
            settings_digest=self._digest,
        )
        op_output.emit(result, "result")
