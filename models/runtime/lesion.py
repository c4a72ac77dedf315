"""The lesion model: from a grey region to the lesions on it, and whether the region is one of its kind.

Promises: training, evaluation and product go this one way from pixels to masks, whatever engine runs the
network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.runtime.components import Component, ComponentRule, components
from models.runtime.engine import Engine
from models.runtime.gate import Gate
from models.runtime.preprocess import letterbox, suppress_marks


@dataclass(frozen=True)
class Found:
    """What the lesion model says of one region.

    `clean` is the region with burnt-in marks suppressed, uint8 (rows, columns); `features` float32 (d,);
    `familiar` is False where the gate holds the region not to be breast ultrasound; `kind` then names what it
    looks like, where that is clear.
    """

    clean: npt.NDArray[np.uint8]
    lesions: tuple[Component, ...]
    features: npt.NDArray[np.float32]
    familiar: bool
    kind: str | None = None


@dataclass(frozen=True)
class LesionModel:
    """The segmentation network with its square's side (pixels), rule and gate (None: everything passes)."""

    engine: Engine
    side: int
    rule: ComponentRule
    gate: Gate | None

    def find(self, grey: npt.NDArray[np.uint8]) -> Found:
        """Lesions of one region, uint8 (rows, columns)."""
        clean = suppress_marks(grey)
        square, box = letterbox(clean, self.side)
        answer = self.engine.run({"image": square[None, None]})
        features = answer["features"]
        familiar = self.gate is None or bool(self.gate.accepts(features)[0])
        found = components(box.invert(answer["lesion_probability"][0, 0]), self.rule)
        kind = None if familiar or self.gate is None else self.gate.kind(features[0])
        return Found(clean, found, features[0], familiar, kind)
