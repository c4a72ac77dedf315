"""The product's answer to a public data set: from its published layout to the rows of a prediction file.

Promises: every picture passes through the shipped models exactly as a frame of a study does (marks
suppressed, lesions outlined, gate, logits, calibration at the data's own share of malignant lesions left
alone), starting from the whole picture. Of BUS-BRA only fold 5 is scored: the shipped models have seen the
others. Refuses a data set that is not as published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.data.breast import read_breast
from models.data.busbra import CONFIRMATION_FOLD, read_busbra
from models.data.record import Record
from models.runtime.loaded import Models
from validation.predictions import PredictedImage


class DataSet(StrEnum):
    """Data sets whose published layout is read."""

    BUSBRA = "busbra"
    BREAST = "breast"


def records_of(name: DataSet, root: Path) -> tuple[Record, ...]:
    """The images that may be scored.

    Raises
    ------
    DataError
        The folder does not hold the data set as published.
    """
    if name is DataSet.BREAST:
        return read_breast(root)
    return tuple(record for record in read_busbra(root) if record.fold == CONFIRMATION_FOLD)


def model_digest(models: Models) -> str:
    """One SHA-256 over the digests of the loaded weights."""
    return hashlib.sha256("".join(bundle.sha256 for bundle in models.bundles).encode()).hexdigest()


def predict_images(records: Iterable[Record], models: Models) -> Iterator[PredictedImage]:
    """One row an image, in the order of the records.

    Raises
    ------
    DataError
        A picture and its outline do not fit.
    """
    digest = model_digest(models)
    calibration = models.judgement.calibration
    for record in records:
        seen = models.lesion.find(record.grey())
        masks = [lesion.mask for lesion in seen.lesions]
        logits = models.diagnosis.logits(seen.clean, masks)
        found = bool(logits) and seen.familiar
        outlined = np.any(masks, axis=0) if masks else np.zeros(seen.clean.shape, bool)
        has_lesion = record.mask_path is not None
        yield PredictedImage(
            image_id=record.image_id,
            patient_id=record.patient_id,
            fold=record.fold or 0,
            device=record.device,
            malignant=record.malignant,
            has_lesion=has_lesion,
            found=found,
            lesions=len(logits),
            dice=_dice(outlined, record.mask()) if found or not has_lesion else 0.0,
            logit=logits[0] if logits else None,
            probability=calibration.probability(logits[0]).value if found else 0.0,
            abstained=not seen.familiar,
            birads=record.birads,
            histology=record.histology,
            verification=record.verification,
            model_sha256=digest,
        )


def write_rows(rows: Sequence[PredictedImage], path: Path) -> None:
    """Write rows as a prediction file (parquet), whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows]), unfinished)
    unfinished.replace(path)


def _dice(found: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    total = int(found.sum()) + int(true.sum())
    return 1.0 if total == 0 else 2 * int((found & true).sum()) / total
