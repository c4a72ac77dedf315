"""Prediction files: one row an image, written by `busmap train publish` and by whoever tests the product.

Promises: a file that is read is complete and consistent, whoever wrote it: the columns, their types, one
row an image, one truth a patient, values in range, nothing found scores 0. Refuses any other file, naming
the column and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.data.prediction import Prediction


class PredictionError(ValueError):
    """A prediction file cannot be judged. The message names file, column and remedy."""

    code = "predictions-unusable"
    exit_status = 10


COLUMNS = tuple(field.name for field in fields(Prediction))
_TYPES = {
    "str": (pa.types.is_string, pa.types.is_large_string),
    "int": (pa.types.is_integer,),
    "bool": (pa.types.is_boolean,),
    "float": (pa.types.is_floating,),
    "float | None": (pa.types.is_floating, pa.types.is_null),
}
_REMEDY = "write the file again with `busmap train publish`, or fix the program that wrote it"


def read_predictions(path: Path) -> tuple[Prediction, ...]:
    """All rows of a file, sorted by image id.

    Raises
    ------
    PredictionError
        The file is missing, not parquet, or a column breaks one of the rules of this module.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise PredictionError(
            f"{path} does not exist: give the path of a prediction file (parquet)"
        ) from None
    except (OSError, pa.ArrowInvalid):
        raise PredictionError(f"{path} is not a parquet file: {_REMEDY}") from None
    _check_columns(table, path)
    rows = tuple(sorted((Prediction(**row) for row in table.to_pylist()), key=lambda row: row.image_id))
    if not rows:
        raise PredictionError(f"{path} holds no row: {_REMEDY}")
    for column, row in _inconsistencies(rows):
        raise PredictionError(f"{path}, image {row.image_id}: {column}: {_REMEDY}")
    return rows


def _check_columns(table: pa.Table, path: Path) -> None:
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise PredictionError(f"{path} lacks the column {', '.join(missing)}: {_REMEDY}")
    surplus = [name for name in table.column_names if name not in COLUMNS]
    if surplus:
        raise PredictionError(f"{path} has an unknown column {', '.join(surplus)}: {_REMEDY}")
    for field in fields(Prediction):
        column, kind = table[field.name], str(field.type)
        if not any(fits(column.type) for fits in _TYPES[kind]):
            raise PredictionError(
                f"{path}: the column {field.name} holds {column.type} and not {kind}: {_REMEDY}"
            )
        if column.null_count and "None" not in kind:
            raise PredictionError(
                f"{path}: the column {field.name} has {column.null_count} empty values: {_REMEDY}"
            )


def _inconsistencies(rows: Iterable[Prediction]) -> Iterable[tuple[str, Prediction]]:
    """What is wrong, and in which row; nothing where all is well."""
    images: set[str] = set()
    truth: dict[str, Any] = {}
    for row in rows:
        if row.image_id in images:
            yield "image_id stands in two rows", row
        images.add(row.image_id)
        if truth.setdefault(row.patient_id, row.malignant) != row.malignant:
            yield "malignant differs from another image of this patient", row
        for column, value in (("probability", row.probability), ("dice", row.dice)):
            if not 0 <= value <= 1:
                yield f"{column} is {value} and not in 0..1", row
        if row.logit is not None and not abs(row.logit) < float("inf"):
            yield "logit is not a finite number", row
        if row.found and (row.logit is None or row.lesions < 1):
            yield "found is true, but logit or lesions say that nothing was found", row
        if row.found and row.abstained:
            yield "abstained is true, but found is true as well", row
        if not row.found and row.probability != 0:
            yield "probability must be 0 where found is false", row
        if row.malignant and not row.has_lesion:
            yield "malignant is true, but has_lesion is false", row
