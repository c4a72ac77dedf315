"""The diagnosis model: from a lesion and its surroundings to a logit, a probability, a side of a threshold.

Promises: training, evaluation and product go this one way; logits of several views are averaged, nothing
else joins them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.runtime.calibration import Calibration
from models.runtime.engine import Engine
from models.runtime.preprocess import lesion_crop


@dataclass(frozen=True)
class OperatingPoints:
    """Logits from which a lesion counts as malignant: at 95% sensitivity, and at 90% specificity."""

    sensitive_logit: float
    specific_logit: float


@dataclass(frozen=True)
class DiagnosisModel:
    """The network with its crops: side in pixels, fields of view in times of the lesion's longer side.

    Several fields of view are averaged: a shift of the outline by a few pixels, as a burnt-in mark can
    cause it, moves their mean less than it moves one.
    """

    engine: Engine
    side: int
    context_factors: tuple[float, ...]

    def logits(
        self, clean: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.bool_]]
    ) -> tuple[float, ...]:
        """Malignancy logit of each lesion of one region, uint8 (rows, columns) with its marks suppressed."""
        if not masks:
            return ()
        crops = [
            lesion_crop(clean, mask, self.side, factor) for mask in masks for factor in self.context_factors
        ]
        logits = self.engine.run({"crop": np.stack(crops)})["malignancy_logit"]
        means = logits.reshape(len(masks), len(self.context_factors)).mean(axis=1)
        return tuple(float(logit) for logit in means)


@dataclass(frozen=True)
class Judgement:
    """What turns a logit into a probability and a side: from out-of-fold predictions alone."""

    calibration: Calibration
    points: OperatingPoints
