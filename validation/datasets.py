"""The product's answer to a public data set: from its published layout to the rows of a prediction file.

Promises: every picture passes through the shipped models exactly as a frame of a study does (marks
suppressed, lesions outlined, gate, logits, calibration at the prevalence of the calibration set), starting
from the whole picture: there is no header, so the step that selects a region has no part.
Of BUS-BRA only fold 5 is scored: the shipped models have seen the others.
Refuses a data set that is not as published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

from models.data.breast import read_breast
from models.data.busbra import CONFIRMATION_FOLD, read_busbra
from models.data.prediction import Networks, Prediction, predict
from models.data.record import Record
from models.runtime.bundle import MARKS
from models.runtime.loaded import Models


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
    """One SHA-256 over the digests of the weights that judge lesions."""
    judging = [bundle.sha256 for bundle in models.bundles if bundle.folder.name != MARKS]
    return hashlib.sha256("".join(judging).encode()).hexdigest()


def predict_images(records: Iterable[Record], models: Models) -> Iterator[Prediction]:
    """One row an image, in the order of the records.

    Raises
    ------
    DataError
        A picture and its outline do not fit.
    """
    networks = Networks(models.lesion, models.diagnosis, model_digest(models))
    calibration = models.judgement.calibration
    return predict(records, networks, lambda logit: calibration.probability(logit).value)
