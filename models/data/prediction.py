"""Predictions from the whole image, as the product makes them: mark suppression, lesion net, diagnosis net.

Promises: one row an image; a lesion that is not found has probability 0 and Dice 0 and stays in the table.
Writes predictions only: figures with intervals are computed from them by the validation suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.data.record import Record
from models.data.whole import whole_file
from models.runtime.diagnosis import DiagnosisModel
from models.runtime.lesion import Found, LesionModel

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Networks:
    """Both models, as the product runs them, and the digest that names their weights."""

    lesion: LesionModel
    diagnosis: DiagnosisModel
    sha256: str


@dataclass(frozen=True)
class Prediction:
    """What was predicted of one image, and what is true of it.

    `probability` of malignancy, 0..1: 0 where no lesion was found. `logit` is the network's highest raw
    answer on a lesion of the image, None without one. `dice` 0..1 against the reference outline.
    `abstained`: the image was set aside as unlike what the models know.
    """

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


def dice(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """Dice overlap of two masks of one shape; 1 where both are empty."""
    total = int(found.sum()) + int(true.sum())
    return 1.0 if total == 0 else 2 * int((found & true).sum()) / total


def predict(
    records: Iterable[Record], networks: Networks, calibrate: Callable[[float], float] | None
) -> Iterator[Prediction]:
    """Rows for `records`; without calibration the probability is the logit's logistic."""
    for record in records:
        seen = networks.lesion.find(record.grey())
        masks = [lesion.mask for lesion in seen.lesions]
        logits = networks.diagnosis.logits(seen.clean, masks)
        yield _row(record, networks, seen, logits, calibrate)


def _row(
    record: Record,
    networks: Networks,
    seen: Found,
    logits: Sequence[float],
    calibrate: Callable[[float], float] | None,
) -> Prediction:
    found = bool(logits) and seen.familiar
    highest = max(logits, default=None)
    probability = 0.0
    if found and highest is not None:
        probability = calibrate(highest) if calibrate else 1 / (1 + float(np.exp(-highest)))
    outlined = np.zeros(seen.clean.shape, bool)
    for lesion in seen.lesions:
        outlined |= lesion.mask
    has_lesion = record.mask_path is not None
    return Prediction(
        image_id=record.image_id,
        patient_id=record.patient_id,
        fold=record.fold or 0,
        device=record.device,
        malignant=record.malignant,
        has_lesion=has_lesion,
        found=found,
        lesions=len(logits),
        dice=dice(outlined, record.mask()) if found or not has_lesion else 0.0,
        logit=highest,
        probability=probability,
        abstained=not seen.familiar,
        birads=record.birads,
        histology=record.histology,
        verification=record.verification,
        model_sha256=networks.sha256,
    )


def write_predictions(rows: Sequence[Prediction], path: Path) -> None:
    """Write rows as parquet, whole or not at all."""
    write_rows([asdict(row) for row in rows], path)


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write any rows of plain values as parquet, whole or not at all."""
    with whole_file(path) as unfinished:
        pq.write_table(pa.Table.from_pylist(list(rows)), unfinished)


def read_predictions(path: Path) -> list[Prediction]:
    """Read rows written by `write_predictions`."""
    return [Prediction(**row) for row in pq.read_table(path).to_pylist()]
