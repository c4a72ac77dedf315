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
    """The network with its crop (side in pixels, times the lesion's longer side)."""

    engine: Engine
    side: int
    context_factor: float

    def logits(
        self, clean: npt.NDArray[np.uint8], masks: Sequence[npt.NDArray[np.bool_]]
    ) -> tuple[float, ...]:
        """Malignancy logit of each lesion of one region, uint8 (rows, columns) with its marks suppressed."""
        if not masks:
            return ()
        crops = np.stack([lesion_crop(clean, mask, self.side, self.context_factor) for mask in masks])
        return tuple(float(logit) for logit in self.engine.run({"crop": crops})["malignancy_logit"])


@dataclass(frozen=True)
class Judgement:
    """What turns a logit into a probability and a side: from out-of-fold predictions alone."""

    calibration: Calibration
    points: OperatingPoints
