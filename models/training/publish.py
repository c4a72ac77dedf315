"""From finished runs to predictions and bundles: out-of-fold rows, gate, calibration, operating points.

Promises: everything that is chosen here (gate, calibration, operating points) comes from folds 1 to 4;
the confirmation sets are only predicted, by the shipping networks, when asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from models.data.prediction import (
    Array,
    Networks,
    Prediction,
    predict,
    read_predictions,
    write_predictions,
)
from models.data.record import Record, data_hash
from models.diagnosis import train as diagnosis
from models.diagnosis.network import DiagnosisNet
from models.runtime.calibration import make_calibration
from models.runtime.components import ComponentRule
from models.runtime.diagnosis import DiagnosisModel
from models.runtime.engine import Arrays, EngineIdentity
from models.runtime.gate import Gate, save_gate
from models.runtime.lesion import LesionModel
from models.segmentation import train as segmentation
from models.segmentation.network import LesionNet
from models.training.bundle import tensor_format, vector_format, write_metadata
from models.training.export import DiagnosisExport, LesionExport, export
from models.training.fit_gate import fit_gate

VERSION = "0.1.0"
# Around the field of view of training, within the zooms it was augmented by.
CONTEXT_FACTORS = (1.35, 1.5, diagnosis.CONTEXT_FACTOR, 1.9, 2.15)
RULE = ComponentRule(threshold=0.5, minimum_area_fraction=0.002, further_score=0.8)


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


def out_of_fold(records: Sequence[Record], runs: Path, folds: Sequence[int]) -> list[Prediction]:
    """Predictions of each fold by networks and gate that did not see it, calibrated by the other folds."""
    rows = [row for fold in folds for row in predict_fold(records, runs, fold)]
    calibrated: list[Prediction] = []
    for fold in folds:
        calibration = make_calibration(*patient_logits([row for row in rows if row.fold != fold]))
        for row in (row for row in rows if row.fold == fold):
            known = row.found and row.logit is not None
            value = calibration.probability(row.logit).value if known and row.logit is not None else 0.0
            calibrated.append(replace(row, probability=value))
    return sorted(calibrated, key=lambda row: row.image_id)


def predict_fold(records: Sequence[Record], runs: Path, fold: int) -> list[Prediction]:
    """Uncalibrated predictions of one fold; kept beside the runs, under the digest of their weights."""
    networks = load_networks(runs, str(fold))
    kept = runs / f"fold{fold}-{networks.sha256[:16]}.parquet"
    if not kept.exists():
        others = [record for record in records if record.fold != fold]
        held = [record for record in records if record.fold == fold]
        gate = fit_gate(others, networks.lesion, segmentation.DEFAULTS.seed)
        networks = replace(networks, lesion=replace(networks.lesion, gate=gate))
        rows = list(predict(track(held, f"fold {fold}"), networks, None))
        write_predictions(rows, kept)
    return read_predictions(kept)


def patient_logits(rows: Sequence[Prediction]) -> tuple[list[float], list[bool]]:
    """Mean logit over the views in which a lesion was found, one a patient; patients without are left out."""
    logits: dict[str, list[float]] = {}
    malignant: dict[str, bool] = {}
    for row in rows:
        if row.found and row.logit is not None:
            logits.setdefault(row.patient_id, []).append(row.logit)
            malignant[row.patient_id] = row.malignant
    return [float(np.mean(values)) for values in logits.values()], [malignant[key] for key in logits]


def operating_points(logits: Sequence[float], malignant: Sequence[bool]) -> dict[str, float]:
    """Logits at which 95% of malignant patients are reached, and 90% of benign ones are not."""
    scores, labels = np.asarray(logits), np.asarray(malignant)
    return {
        "sensitive_logit": float(np.quantile(scores[labels], 0.05, method="lower")),
        "specific_logit": float(np.nextafter(np.quantile(scores[~labels], 0.90, method="higher"), np.inf)),
    }


def publish(
    records: Sequence[Record], runs: Path, name: str, rows: Sequence[Prediction], bundles: Path
) -> None:
    """Write both bundles from run `name`."""
    networks = load_networks(runs, name)
    gate = fit_gate(records, networks.lesion, segmentation.DEFAULTS.seed)
    logits, malignant = patient_logits(rows)
    calibration = make_calibration(logits, malignant)
    facts: dict[str, Any] = {"data_sha256": data_hash(records)}
    _publish_lesion(runs, name, bundles / "breast_us_lesion", gate, facts)
    points = operating_points(logits, malignant)
    _publish_diagnosis(runs, name, bundles / "breast_us_diagnosis", points, facts)
    content = {"logits": calibration.logits.tolist(), "malignant": calibration.malignant.astype(int).tolist()}
    target = bundles / "breast_us_diagnosis" / "models" / "calibration.json"
    target.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _settings_of(run: Path) -> Any:
    """What the run was really made with, seed and epochs among it."""
    return json.loads((run / "run.json").read_text(encoding="utf-8"))["settings"]


def _publish_lesion(runs: Path, name: str, folder: Path, gate: Gate, facts: dict[str, Any]) -> None:
    network = LesionNet(pretrained=False)
    network.load_state_dict(torch.load(runs / "segmentation" / name / "weights.pt", weights_only=True))
    side = segmentation.SIDE
    digest = export(
        LesionExport(network),
        torch.rand(1, 1, side, side),
        ["image"],
        ["lesion_probability", "features"],
        folder / "models" / "model.onnx",
    )
    save_gate(gate, folder / "models" / "gate.npz")
    write_metadata(
        folder,
        name="Breast ultrasound lesion",
        version=VERSION,
        task="Outlining lesions on B-mode breast ultrasound frames",
        data_format={
            "inputs": {"image": tensor_format(1, side, {0: "grey"}, (0, 1))},
            "outputs": {
                "lesion_probability": tensor_format(1, side, {0: "lesion"}, (0, 1)),
                "features": vector_format(gate.centre.shape[0], "pooled encoder features"),
            },
        },
        busmap={
            **facts,
            "model_sha256": digest,
            "side": side,
            "rule": asdict(RULE),
            "settings": _settings_of(runs / "segmentation" / name),
        },
    )


def _publish_diagnosis(
    runs: Path, name: str, folder: Path, points: dict[str, float], facts: dict[str, Any]
) -> None:
    network = DiagnosisNet(pretrained=False)
    network.load_state_dict(torch.load(runs / "diagnosis" / name / "weights.pt", weights_only=True))
    side = diagnosis.SIDE
    digest = export(
        DiagnosisExport(network),
        torch.rand(1, 2, side, side),
        ["crop"],
        ["malignancy_logit"],
        folder / "models" / "model.onnx",
    )
    write_metadata(
        folder,
        name="Breast ultrasound diagnosis",
        version=VERSION,
        task="Malignancy of a lesion found on B-mode breast ultrasound",
        data_format={
            "inputs": {"crop": tensor_format(2, side, {0: "grey", 1: "lesion mask"}, (0, 1))},
            "outputs": {"malignancy_logit": vector_format(1, "logit of malignancy")},
        },
        busmap={
            **facts,
            "model_sha256": digest,
            "side": side,
            "context_factors": CONTEXT_FACTORS,
            "operating_points": points,
            "aggregation": "mean logit over the views of a lesion",
            "settings": _settings_of(runs / "diagnosis" / name),
        },
    )
