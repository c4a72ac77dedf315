"""Join views to lesions and judge each lesion once: probability, interval, category.

Promises: a lesion has one probability, from the mean of its images' logits (of a cine's key frames first, so
that a long cine weighs no more than a still); the interval is the Venn-Abers pair of patients the network
had not seen. A category is BI-RADS-aligned, not an assessment: never 2, and none whose upper bound lies below
what the calibration data can show. BI-RADS is a registered name of the American College of Radiology.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec, OutputContext

from models.runtime.diagnosis import DiagnosisModel, Judgement
from models.runtime.loaded import Models
from operators.findings import CATEGORIES, Assessment, Detections, Lesion, ModelIdentity, StudyResult, Track
from operators.join_views import Joined, Tracks, join_views, reading_order

# Upper bounds of the likelihood of malignancy (ACR BI-RADS Atlas, 5th edition): 3 up to 2%, 4A up to 10%,
# 4B up to 50%, 4C below 95%, 5 from there; as CATEGORIES.
_BOUNDS = (0.02, 0.10, 0.50, 0.95)
MAXIMUM_UNCLEAR_NAMED = 3


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
    judged = [_with_logits(track, models.diagnosis) for track in detections.tracks]
    joined = join_views(judged)
    lesions = [
        (tracks, _assess(tracks, models.judgement, malignant_prevalence), place)
        for place, tracks in enumerate(joined.lesions)
    ]
    lesions.sort(key=lambda one: (-one[1].probability, reading_order(one[0][0])))
    number_of = {place: number for number, (_, _, place) in enumerate(lesions, start=1)}
    return StudyResult(
        study=detections.study,
        lesions=tuple(
            Lesion(number, tracks, assessment, _laterality(tracks), _clock_hour(tracks))
            for number, (tracks, assessment, _) in enumerate(lesions, start=1)
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
        warnings=(*detections.warnings, *_unclear(joined, number_of)),
        screen_reader=detections.screen_reader,
    )


def _unclear(joined: Joined, number_of: Mapping[int, int]) -> Iterator[str]:
    """What is said of lesions that may be one: at most a few pairs by name."""
    pairs = sorted(tuple(sorted((number_of[i], number_of[j]))) for i, j in joined.unclear)
    for one, other in pairs[:MAXIMUM_UNCLEAR_NAMED]:
        yield f"It could not be told whether L{one} and L{other} are the same lesion; they are left apart."
    if len(pairs) > MAXIMUM_UNCLEAR_NAMED:
        yield f"The same holds for {len(pairs) - MAXIMUM_UNCLEAR_NAMED} more pairs of lesions."


def category(low: float, high: float, ceiling: float) -> str | None:
    """BI-RADS-aligned category of an interval, all in 0..1: the lowest whose upper bound the data support.

    Its upper bound covers the interval's and, up to 4B, the `ceiling` (Calibration.ceiling) too. 5 has a
    lower bound as well, which the interval must keep. None where the interval reaches over more than two
    categories, or over the border of 5, or where the ceiling lies more than one category above it: the data
    then support none.
    """
    if _too_wide(low, high):
        return None
    lifted = _lifted(high, ceiling)
    return CATEGORIES[lifted] if lifted - _band(high) <= 1 else None


def deciding_ceiling(low: float, high: float, ceiling: float) -> float | None:
    """The ceiling where it, not the interval, decides the category or that there is none; else None."""
    return ceiling if not _too_wide(low, high) and _lifted(high, ceiling) > _band(high) else None


def _too_wide(low: float, high: float) -> bool:
    lowest, highest = _band(low), _band(high)
    return highest - lowest > 1 or lowest < highest == len(_BOUNDS)


def _lifted(high: float, ceiling: float) -> int:
    """The band that covers both; the ceiling alone makes no 5."""
    return max(_band(high), min(_band(ceiling), len(_BOUNDS) - 1))


def _band(probability: float) -> int:
    if probability >= _BOUNDS[-1]:
        return len(_BOUNDS)
    return next(index for index, bound in enumerate(_BOUNDS) if probability <= bound)


def _with_logits(track: Track, model: DiagnosisModel) -> Track:
    return replace(
        track,
        views=tuple(
            replace(view, malignancy_logit=model.logits(view.clean, [view.mask])[0]) for view in track.views
        ),
    )


def _laterality(tracks: Tracks) -> str | None:
    sides = {view.frame.laterality for track in tracks for view in track.views} - {None}
    return sides.pop() if len(sides) == 1 else None


def _clock_hour(tracks: Tracks) -> int | None:
    hours = {view.frame.clock_hour for track in tracks for view in track.views} - {None}
    return hours.pop() if len(hours) == 1 else None


def _assess(tracks: Tracks, judgement: Judgement, prevalence: float) -> Assessment:
    logits: dict[str, list[float]] = {}
    for view in (view for track in tracks for view in track.views):
        if view.malignancy_logit is not None:
            logits.setdefault(view.frame.instance.sop_instance_uid, []).append(view.malignancy_logit)
    logit = float(np.mean([np.mean(values) for values in logits.values()]))
    given = judgement.calibration.probability(logit, prevalence)
    ceiling = judgement.calibration.ceiling(logit, prevalence)
    return Assessment(
        probability=given.value,
        probability_low=given.low,
        probability_high=given.high,
        category=category(given.low, given.high, ceiling),
        above_sensitive_threshold=logit >= judgement.points.sensitive_logit,
        above_specific_threshold=logit >= judgement.points.specific_logit,
        deciding_ceiling=deciding_ceiling(given.low, given.high, ceiling),
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
