"""Out-of-fold predictions: every development fold predicted by networks and gate that had not seen it.

Promises: whole images in, one row an image out; the rows of a fold are kept beside the runs under the digest
of the weights that made them, so that retrained networks never answer with old rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from models.data.prediction import Prediction, predict, read_predictions, write_predictions
from models.data.record import Record
from models.runtime.calibration import make_calibration
from models.segmentation import train as segmentation
from models.training.fit_gate import fit_gate
from models.training.networks import load_networks


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
