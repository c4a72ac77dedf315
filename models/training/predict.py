"""Predictions from the whole image, as the product makes them: mark suppression, lesion net, diagnosis net.

Promises: one row an image; a lesion that is not found has probability 0 and Dice 0 and stays in the table.
Writes predictions only: figures with intervals are computed from them by the validation suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.data.record import Record
from models.runtime.components import ComponentRule, components
from models.runtime.gate import Gate
from models.runtime.preprocess import lesion_crop, letterbox, suppress_marks

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Networks:
    """Both networks as functions of arrays (see the ONNX contracts), and what goes with them."""

    lesion: Callable[[Array], tuple[Array, Array]]
    diagnosis: Callable[[Array], Array]
    lesion_side: int
    crop_side: int
    context_factor: float
    rule: ComponentRule
    model_sha256: str


@dataclass(frozen=True)
class Answer:
    """What the networks say of one picture. `logits`: one a lesion, in the order of the components."""

    mask: npt.NDArray[np.bool_]
    scores: tuple[float, ...]
    logits: tuple[float, ...]
    features: Array


@dataclass(frozen=True)
class Prediction:
    """One row of a prediction file."""

    image_id: str
    patient_id: str
    fold: int
    device: str
    malignant: bool
    has_lesion: bool
    found: bool
    lesions: int
    dice: float
    logit: float | None
    probability: float
    abstained: bool
    birads: str
    histology: str
    verification: str
    model_sha256: str


def answer(networks: Networks, grey: npt.NDArray[np.uint8]) -> Answer:
    """Run both networks on one picture, uint8 (rows, columns)."""
    clean = suppress_marks(grey)
    square, box = letterbox(clean, networks.lesion_side)
    probability, features = networks.lesion(square[None, None])
    found = components(box.invert(probability[0, 0]), networks.rule)
    mask = np.zeros(grey.shape, bool)
    crops = []
    for component in found:
        mask |= component.mask
        crops.append(lesion_crop(clean, component.mask, networks.crop_side, networks.context_factor))
    logits = networks.diagnosis(np.stack(crops)) if crops else np.zeros(0, np.float32)
    return Answer(mask, tuple(item.score for item in found), tuple(float(x) for x in logits), features[0])


def dice(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """Dice overlap of two masks of one shape; 1 where both are empty."""
    total = int(found.sum()) + int(true.sum())
    return 1.0 if total == 0 else 2 * int((found & true).sum()) / total


def predict(
    records: Iterable[Record],
    networks: Networks,
    gate: Gate | None,
    calibrate: Callable[[float], float] | None,
) -> Iterable[tuple[Prediction, Array]]:
    """Rows and features for `records`.

    Without a gate nothing is abstained from; without calibration the probability is the logistic of the
    logit.
    """
    for record in records:
        given = answer(networks, record.grey())
        abstained = gate is not None and not bool(gate.accepts(given.features[None])[0])
        found = bool(given.logits) and not abstained
        logit = given.logits[0] if given.logits else None
        probability = 0.0
        if found and logit is not None:
            probability = calibrate(logit) if calibrate else 1 / (1 + float(np.exp(-logit)))
        row = Prediction(
            image_id=record.image_id,
            patient_id=record.patient_id,
            fold=record.fold or 0,
            device=record.device,
            malignant=record.malignant,
            has_lesion=record.mask_path is not None,
            found=found,
            lesions=len(given.logits),
            dice=dice(given.mask, record.mask()) if found or record.mask_path is None else 0.0,
            logit=logit,
            probability=probability,
            abstained=abstained,
            birads=record.birads,
            histology=record.histology,
            verification=record.verification,
            model_sha256=networks.model_sha256,
        )
        yield row, given.features


def write_predictions(rows: Sequence[Prediction], path: Path) -> None:
    """Write rows as parquet, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), unfinished)
    unfinished.replace(path)
