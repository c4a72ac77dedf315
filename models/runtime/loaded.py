"""All models of a process, loaded once and handed in.

Promises: nothing is loaded that fails its check; what is loaded says what it is, for the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.runtime.bundle import Bundle, bundle_folders, read_bundle
from models.runtime.calibration import load_calibration
from models.runtime.components import ComponentRule
from models.runtime.diagnosis import DiagnosisModel, Judgement, OperatingPoints
from models.runtime.engine import EngineIdentity
from models.runtime.gate import load_gate
from models.runtime.lesion import LesionModel
from models.runtime.marks import MarkModel
from models.runtime.onnx_runtime import OnnxRuntimeEngine


@dataclass(frozen=True)
class Models:
    """The models that analyse a study, and what names them in a report."""

    lesion: LesionModel
    diagnosis: DiagnosisModel
    judgement: Judgement
    marks: MarkModel
    bundles: tuple[Bundle, ...]

    @property
    def engine(self) -> EngineIdentity:
        """The engine that runs them."""
        return self.lesion.engine.identity


def load_models(folder: Path | None = None, threads: int = 2) -> Models:
    """Load the bundles of `folder`, or those that ship, into engines of `threads` threads.

    A folder without a bundle for burnt-in marks is completed by the one that ships.

    Raises
    ------
    ModelError
        A bundle is missing, changed or cannot be loaded.
    """
    lesion, diagnosis, marks = (read_bundle(one) for one in bundle_folders(folder))
    return Models(
        lesion=LesionModel(
            OnnxRuntimeEngine(lesion.weights, threads),
            int(lesion.fact("side")),
            ComponentRule(**lesion.fact("rule")),
            load_gate(lesion.folder / "models" / "gate.npz", str(lesion.fact("gate_sha256"))),
        ),
        diagnosis=DiagnosisModel(
            OnnxRuntimeEngine(diagnosis.weights, threads),
            int(diagnosis.fact("side")),
            tuple(float(factor) for factor in diagnosis.fact("context_factors")),
        ),
        judgement=Judgement(
            load_calibration(diagnosis.folder / "models" / "calibration.json"),
            OperatingPoints(**diagnosis.fact("operating_points")),
        ),
        marks=load_marks(marks, threads),
        bundles=(lesion, diagnosis, marks),
    )


def marks_bundle(folder: Path | None) -> Bundle:
    """The bundle for burnt-in marks of `folder` where it has one, or that which ships."""
    return read_bundle(bundle_folders(folder)[2])


def load_marks(bundle: Bundle, threads: int) -> MarkModel:
    """The model of burnt-in marks from its bundle."""
    return MarkModel(
        OnnxRuntimeEngine(bundle.weights, threads),
        float(bundle.fact("threshold")),
        int(bundle.fact("minimum_pixels")),
    )
