"""Out-of-fold predictions: every development fold predicted by networks and gate that had not seen it.

Promises: whole images in, one row an image out; the rows of a fold are kept beside the runs under the digest
of the weights that made them, so that retrained networks never answer with old rows.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
from rich.progress import track

from models.data import prediction
from models.data.prediction import Prediction, predict, read_predictions, write_predictions
from models.data.record import Record
from models.runtime import components, diagnosis, gate, lesion, preprocess
from models.runtime.calibration import make_calibration
from models.segmentation import train as segmentation
from models.training import export, fit_gate
from models.training.networks import CONTEXT_FACTORS, RULE, load_networks

# Whose code decides a row beside the weights: changed, they make rows of their own.
_MADE_BY = (preprocess, components, gate, lesion, diagnosis, prediction, export, fit_gate)


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
    """Uncalibrated predictions of one fold; kept beside the runs, under the digest of what made them."""
    networks = load_networks(runs, str(fold))
    made_by = "\n".join([networks.sha256, repr(RULE), repr(CONTEXT_FACTORS), *map(_source, _MADE_BY)])
    kept = runs / f"fold{fold}-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}.parquet"
    if not kept.exists():
        others = [record for record in records if record.fold != fold]
        held = [record for record in records if record.fold == fold]
        fitted = fit_gate.fit_gate(others, networks.lesion, segmentation.DEFAULTS.seed)
        networks = replace(networks, lesion=replace(networks.lesion, gate=fitted))
        rows = list(predict(track(held, f"fold {fold}"), networks, None))
        write_predictions(rows, kept)
    return read_predictions(kept)


def _source(module: ModuleType) -> str:
    return inspect.getsource(module)


def patient_scores(rows: Sequence[Prediction]) -> tuple[list[float], list[bool]]:
    """Score and truth of every patient: mean logit over the views with a finding, lowest (-inf) without."""
    found = dict(zip(*_found_patients(rows), strict=True))
    malignant = {row.patient_id: row.malignant for row in rows}
    return [found.get(patient, -np.inf) for patient in malignant], list(malignant.values())


def patient_logits(rows: Sequence[Prediction]) -> tuple[list[float], list[bool]]:
    """The same of the patients with a finding alone: what a probability can be calibrated on."""
    patients, logits = _found_patients(rows)
    malignant = {row.patient_id: row.malignant for row in rows}
    return logits, [malignant[patient] for patient in patients]


def _found_patients(rows: Sequence[Prediction]) -> tuple[list[str], list[float]]:
    logits: dict[str, list[float]] = {}
    for row in rows:
        if row.found and row.logit is not None:
            logits.setdefault(row.patient_id, []).append(row.logit)
    return list(logits), [float(np.mean(values)) for values in logits.values()]
