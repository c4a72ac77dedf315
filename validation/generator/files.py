"""The files of the generator's studies, read as tables that can be judged.

Promises: a table that is read has the columns asked for, no empty value, one row an image, arm and seed,
and one truth a patient. Refuses any other, naming file, column and remedy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from validation.predictions import PredictionError

SCORES = ("arm", "seed", "image_id", "patient_id", "device", "malignant")
Columns = dict[str, np.ndarray[Any, Any]]


def read_columns(path: Path, columns: Sequence[str], verb: str) -> Columns:
    """Columns of a parquet file as arrays, without an empty value.

    Raises
    ------
    PredictionError
        The file or a column is missing, or holds an empty value or a number that is none.
    """
    remedy = f"write it again with `busmap generator {verb}`"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        raise PredictionError(f"{path} cannot be read as parquet: {remedy}") from None
    for name in columns:
        if name not in table.column_names:
            raise PredictionError(f"{path} lacks the column {name}: {remedy}")
        if table[name].null_count:
            raise PredictionError(f"{path}: the column {name} has empty values: {remedy}")
    read = {name: table[name].to_numpy() for name in columns}
    for name, values in read.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise PredictionError(f"{path}: the column {name} holds a value that is no number: {remedy}")
    if not table.num_rows:
        raise PredictionError(f"{path} holds no row: {remedy}")
    return read


def read_scores(path: Path, value: str) -> Columns:
    """Rows of a study: who, which arm, and the column `value`.

    Raises
    ------
    PredictionError
        As for `read_columns`; or an image stands twice in an arm and seed, arms judged different images,
        or a patient has two truths.
    """
    rows = read_columns(path, (*SCORES, value), "study")
    check_scores(path, rows, "study")
    return rows


def check_scores(path: Path, rows: Columns, verb: str) -> None:
    """Refuse rows that cannot be compared arm by arm.

    Raises
    ------
    PredictionError
        An image stands twice in an arm and seed, arms judged different images, or a patient has two truths.
    """
    remedy = f"run busmap generator {verb} anew"
    runs: dict[tuple[str, int], list[str]] = {}
    for arm, seed, image in zip(rows["arm"], rows["seed"], rows["image_id"], strict=True):
        runs.setdefault((arm, int(seed)), []).append(image)
    first = next(iter(runs.values()))
    for run, images in runs.items():
        if len(set(images)) != len(images):
            raise PredictionError(f"{path}: an image stands twice in arm and seed {run}: {remedy}")
        if set(images) != set(first):
            raise PredictionError(f"{path}: {run} judged other images than the rest: {remedy}")
    check_truth(path, rows, remedy)


def check_truth(path: Path, rows: Columns, remedy: str) -> None:
    """Refuse rows in which a patient has two truths."""
    truth: dict[str, bool] = {}
    for patient, malignant in zip(rows["patient_id"], rows["malignant"], strict=True):
        if truth.setdefault(patient, malignant) != malignant:
            raise PredictionError(f"{path}: malignant differs between images of {patient}: {remedy}")


def read_facts(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    PredictionError
        It is missing or none.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise PredictionError(f"{path} cannot be read: run the verb that writes it again") from None
    if not isinstance(facts, dict):
        raise PredictionError(f"{path} holds no object: run the verb that writes it again")
    return facts
