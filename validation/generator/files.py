"""The files of the generator's studies, read as tables that can be judged.

Promises: a table that is read has the columns asked for, of their types, no empty value, one row an image,
arm and seed, and one truth a patient; the facts beside it have the shape named here. Refuses any other,
naming file, column and remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from models.data import facts
from models.data.facts import Facts
from models.data.record import DataError
from validation.predictions import PredictionError

SCORES = ("arm", "seed", "image_id", "patient_id", "device", "malignant")
_FLAGS = ("malignant",)
_NUMBERS = ("seed", "epochs", "k", "logit", "score", "dice", "loss", "shape", "down", "across")
Columns = dict[str, np.ndarray[Any, Any]]


class _Images(Facts):
    images: int = Field(ge=1)


class _Arm(Facts):
    real: bool
    times: int = Field(ge=0)


class StudyFacts(Facts):
    """study.json: how many pictures were learned from, and what the arms are."""

    learned: _Images
    arms: dict[str, _Arm]


class PrivacyFacts(Facts):
    """privacy.json: draws thrown away, and epochs trained where they are known."""

    rejected: int = Field(ge=0)
    epochs: float | None


class _Epoch(Facts):
    epochs: int
    membership: float


class _Rule(Facts):
    membership_below: float


class StopFacts(Facts):
    """stop.json: the snapshots, the choice among them, the rule."""

    epochs: list[_Epoch] = Field(min_length=1)
    chosen: int | None
    rule: _Rule


class _Set(Facts):
    left_out_without_lesion: int = Field(ge=0)


class ConfirmFacts(Facts):
    """confirm.json: the day, the weights by arm and seed, the sets."""

    day: str
    weights: dict[str, str]
    sets: dict[str, _Set]


def read_columns(path: Path, columns: Sequence[str], verb: str) -> Columns:
    """Columns of a parquet file as arrays, without an empty value.

    Raises
    ------
    PredictionError
        The file or a column is missing, or holds an empty value, a number that is none or another type.
    """
    remedy = f"write it again with `busmap generator {verb}`"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        raise PredictionError(f"{path} cannot be read as parquet: {remedy}") from None
    for name in columns:
        if name not in table.column_names:
            raise PredictionError(f"{path} lacks the column {name}: {remedy}")
        if table[name].null_count:
            raise PredictionError(f"{path}: the column {name} has empty values: {remedy}")
        if not _fits(name, table[name].type):
            raise PredictionError(f"{path}: the column {name} holds {table[name].type}: {remedy}")
    read = {name: table[name].to_numpy() for name in columns}
    for name, values in read.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise PredictionError(f"{path}: the column {name} holds a value that is no number: {remedy}")
    if not table.num_rows:
        raise PredictionError(f"{path} holds no row: {remedy}")
    return read


def _fits(name: str, kind: pa.DataType) -> bool:
    """Whether a column that figures are computed from is of its type."""
    if name in _FLAGS:
        return bool(pa.types.is_boolean(kind))
    if name in _NUMBERS or name.endswith("_distance"):
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
    return True


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


def read_facts(path: Path, shape: type[Facts] = Facts) -> dict[str, Any]:
    """A JSON object of a shape.

    Raises
    ------
    PredictionError
        It is missing, none, or of another shape.
    """
    try:
        return facts.read_facts(path, shape, "run the verb that writes it again")
    except DataError as error:
        raise PredictionError(str(error)) from None
