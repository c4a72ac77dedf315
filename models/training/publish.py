"""From finished runs to the bundles that ship: weights as ONNX, gate, calibration, operating points, cards.

Promises: everything that is chosen here comes from folds 1 to 4.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.data.prediction import Prediction
from models.data.record import Record, data_hash
from models.diagnosis import train as diagnosis
from models.diagnosis.network import DiagnosisNet
from models.runtime.calibration import make_calibration
from models.runtime.gate import Gate
from models.runtime.manifest import write_manifest
from models.segmentation import train as segmentation
from models.segmentation.network import LesionNet
from models.training.bundle import tensor_format, vector_format, write_metadata
from models.training.card import write_card
from models.training.export import DiagnosisExport, LesionExport, export
from models.training.fit_gate import fit_gate
from models.training.fit_kinds import fit_kinds
from models.training.gate_bundle import LESION_CHANGELOG, write_gate
from models.training.networks import CONTEXT_FACTORS, RULE, load_networks
from models.training.out_of_fold import patient_logits, patient_scores

DIAGNOSIS_CHANGELOG = {"0.1.0": "first shipped weights"}


def operating_points(logits: Sequence[float], malignant: Sequence[bool]) -> dict[str, float]:
    """Logits at which 95% of malignant patients are reached, and 90% of benign ones are not.

    `logits` of all patients, -inf where nothing was found: who is missed counts.

    Raises
    ------
    ValueError
        More than 5% of the malignant patients have no finding: no threshold reaches 95%.
    """
    scores, labels = np.asarray(logits), np.asarray(malignant)
    sensitive = float(np.quantile(scores[labels], 0.05, method="lower"))
    if not np.isfinite(sensitive):
        raise ValueError("no threshold reaches a sensitivity of 95%: too many malignant patients are missed")
    return {
        "sensitive_logit": sensitive,
        "specific_logit": float(np.nextafter(np.quantile(scores[~labels], 0.90, method="higher"), np.inf)),
    }


def publish(
    records: Sequence[Record], runs: Path, name: str, rows: Sequence[Prediction], bundles: Path
) -> None:
    """Write both bundles from run `name`."""
    networks = load_networks(runs, name)
    seed = segmentation.DEFAULTS.seed
    gate = replace(fit_gate(records, networks.lesion, seed), kinds=fit_kinds(networks.lesion, seed))
    logits, malignant = patient_logits(rows)
    calibration = make_calibration(logits, malignant)
    facts: dict[str, Any] = {"data_sha256": data_hash(records)}
    _publish_lesion(runs, name, bundles / "breast_us_lesion", gate, facts)
    points = operating_points(*patient_scores(rows))
    _publish_diagnosis(runs, name, bundles / "breast_us_diagnosis", points, facts)
    content = {"logits": calibration.logits.tolist(), "malignant": calibration.malignant.astype(int).tolist()}
    target = bundles / "breast_us_diagnosis" / "models" / "calibration.json"
    target.write_text(json.dumps(content) + "\n", encoding="utf-8")
    folds = [str(fold) for fold in sorted({record.fold for record in records if record.fold})]
    counts = {"images": len(records), "patients": len({record.patient_id for record in records}), **facts}
    write_card(
        bundles / "breast_us_lesion",
        runs / "segmentation",
        folds,
        "held_out_dice",
        {**_card_facts(bundles / "breast_us_lesion"), **counts, **_LESION_CARD},
    )
    write_card(
        bundles / "breast_us_diagnosis",
        runs / "diagnosis",
        folds,
        "held_out_auc",
        {**_card_facts(bundles / "breast_us_diagnosis"), **counts, **_DIAGNOSIS_CARD},
    )
    for bundle in ("breast_us_lesion", "breast_us_diagnosis"):
        write_manifest(bundles / bundle)


_LESION_CARD = {
    "input": "`image`: a B-mode region as grey square, burnt-in marks suppressed, values 0 to 1",
    "output": "`lesion_probability`: a map of the square; `features`, pooled, for the gate `models/gate.npz`",
    "caution": "The gate sees what is far from its training pictures and misses some of what is near: its "
    "own card is `docs/gate.md`.",
    "verb": "lesion",
}
_DIAGNOSIS_CARD = {
    "input": "`crop`: the lesion with its surroundings, grey and mask, values 0 to 1",
    "output": "`malignancy_logit`; `models/calibration.json` makes of its mean over views a probability with "
    "its Venn-Abers pair; operating points in `configs/metadata.json`",
    "caution": "The probability holds for the share of malignant lesions it is asked for.",
    "verb": "diagnosis",
}


def _card_facts(folder: Path) -> dict[str, str]:
    """What the card takes from the metadata written beside it."""
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    settings = ", ".join(f"{key} {value}" for key, value in metadata["busmap"]["settings"].items())
    names = ("name", "version", "task")
    return {
        **{key: metadata[key] for key in names},
        "sha256": metadata["busmap"]["model_sha256"],
        "settings": settings,
    }


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
    gate_sha256 = write_gate(gate, folder)
    write_metadata(
        folder,
        name="Breast ultrasound lesion",
        changelog=LESION_CHANGELOG,
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
            "gate_sha256": gate_sha256,
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
        changelog=DIAGNOSIS_CHANGELOG,
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
