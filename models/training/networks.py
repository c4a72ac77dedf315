"""Trained runs as models: the same classes that the product runs, over networks in eager mode.

Promises: what predicts here goes through the product's own steps, from marks to mean logit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.data.prediction import Array, Networks
from models.diagnosis import train as diagnosis
from models.diagnosis.network import DiagnosisNet
from models.runtime.components import ComponentRule
from models.runtime.diagnosis import DiagnosisModel
from models.runtime.engine import Arrays, EngineIdentity
from models.runtime.gate import Gate
from models.runtime.lesion import LesionModel
from models.segmentation import train as segmentation
from models.segmentation.network import LesionNet
from models.training.export import DiagnosisExport, LesionExport

RULE = ComponentRule(threshold=0.5, minimum_area_fraction=0.002, further_score=0.8)
# Around the field of view of training, within the zooms it was augmented by.
CONTEXT_FACTORS = (1.35, 1.5, diagnosis.CONTEXT_FACTOR, 1.9, 2.15)


class TorchEngine:
    """A network in eager mode, answering as its ONNX file will (an Engine)."""

    def __init__(self, module: torch.nn.Module, outputs: Sequence[str]) -> None:
        self._module, self._outputs = module.eval(), tuple(outputs)

    @property
    def identity(self) -> EngineIdentity:
        """PyTorch on the CPU in single precision."""
        return EngineIdentity("torch-cpu", "FP32")

    @torch.no_grad()
    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Run one batch."""
        answer = self._module(*(torch.from_numpy(np.asarray(value)) for value in inputs.values()))
        parts = answer if isinstance(answer, tuple) else (answer,)
        return {name: part.numpy() for name, part in zip(self._outputs, parts, strict=True)}


def load_networks(runs: Path, name: str, gate: Gate | None = None) -> Networks:
    """The averaged networks of a run pair: `runs`/segmentation/`name` and `runs`/diagnosis/`name`."""
    lesion, crop = LesionNet(pretrained=False), DiagnosisNet(pretrained=False)
    digest = hashlib.sha256()
    for network, kind in ((lesion, "segmentation"), (crop, "diagnosis")):
        path = runs / kind / name / "weights.pt"
        network.load_state_dict(torch.load(path, weights_only=True))
        digest.update(path.read_bytes())
    lesion_engine = TorchEngine(LesionExport(lesion), ["lesion_probability", "features"])
    return Networks(
        LesionModel(lesion_engine, segmentation.SIDE, RULE, gate),
        DiagnosisModel(
            TorchEngine(DiagnosisExport(crop), ["malignancy_logit"]),
            diagnosis.SIDE,
            CONTEXT_FACTORS,
        ),
        digest.hexdigest(),
    )
