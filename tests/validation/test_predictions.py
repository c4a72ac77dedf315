"""What is read from a prediction file, and what is refused with which words."""

from __future__ import annotations

from dataclasses import fields, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.prediction import Prediction
from tests.validation.made_predictions import made_rows, write_parquet
from validation.predictions import COLUMNS, PredictionError, read_predictions


def test_the_columns_are_those_that_training_writes():
    assert [(field.name, field.type) for field in fields(Prediction)] == [
        (field.name, field.type) for field in fields(Prediction)
    ]


def test_rows_come_back_as_written(tmp_path):
    rows = made_rows()
    assert read_predictions(write_parquet(rows[::-1], tmp_path / "rows.parquet")) == tuple(rows)


def test_a_file_in_which_nothing_was_found_is_read(tmp_path):
    rows = [
        replace(row, found=False, abstained=False, lesions=0, logit=None, probability=0.0, dice=0.0)
        for row in made_rows()
    ]
    assert read_predictions(write_parquet(rows, tmp_path / "rows.parquet")) == tuple(rows)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(tmp_path, column):
    path = write_parquet(made_rows(), tmp_path / "rows.parquet")
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(PredictionError, match=rf"lacks the column {column}: write the file again"):
        read_predictions(path)


def test_an_unknown_column_and_a_wrong_type_are_named(tmp_path):
    path = write_parquet(made_rows(), tmp_path / "rows.parquet")
    table = pq.read_table(path)
    more = tmp_path / "more.parquet"
    pq.write_table(table.append_column("score", table["dice"]), more)
    with pytest.raises(PredictionError, match="unknown column score"):
        read_predictions(more)
    place = table.column_names.index("malignant")
    pq.write_table(table.set_column(place, "malignant", table["malignant"].cast(pa.string())), more)
    with pytest.raises(PredictionError, match="column malignant holds string and not bool"):
        read_predictions(more)


def test_empty_values_are_counted(tmp_path):
    path = write_parquet(made_rows(), tmp_path / "rows.parquet")
    table = pq.read_table(path)
    values = [None, None, *table["dice"].to_pylist()[2:]]
    place = table.column_names.index("dice")
    pq.write_table(table.set_column(place, "dice", pa.array(values, pa.float64())), path)
    with pytest.raises(PredictionError, match="column dice has 2 empty values"):
        read_predictions(path)


BROKEN = {
    "probability is 1.2 and not in 0..1": {"probability": 1.2},
    "dice is -0.1 and not in 0..1": {"dice": -0.1},
    "dice is nan": {"dice": float("nan")},
    "logit is not a finite number": {"logit": float("inf")},
    "found is true, but logit": {"logit": None},
    "found is true as well": {"abstained": True},
    "probability must be 0": {"found": False},
    "has_lesion is false": {"has_lesion": False, "malignant": True},
}


@pytest.mark.parametrize("message", BROKEN)
def test_values_that_contradict_each_other_are_named_with_their_image(tmp_path, message):
    rows = made_rows()
    place = next(index for index, row in enumerate(rows) if row.found and row.malignant)
    rows[place] = replace(rows[place], **BROKEN[message])
    with pytest.raises(PredictionError, match=f"{rows[place].image_id}: .*{message}"):
        read_predictions(write_parquet(rows, tmp_path / "rows.parquet"))


def test_an_image_twice_and_a_patient_with_two_truths_are_refused(tmp_path):
    rows = made_rows()
    with pytest.raises(PredictionError, match="image_id stands in two rows"):
        read_predictions(write_parquet([*rows, rows[0]], tmp_path / "twice.parquet"))
    views = next(row for row in rows if row.image_id.endswith("-1"))
    changed = [replace(row, malignant=not row.malignant) if row is views else row for row in rows]
    with pytest.raises(PredictionError, match="malignant differs from another image of this patient"):
        read_predictions(write_parquet(changed, tmp_path / "truth.parquet"))


def test_what_is_no_prediction_file_is_refused(tmp_path):
    with pytest.raises(PredictionError, match="does not exist"):
        read_predictions(tmp_path / "none.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("image_id,probability\n")
    with pytest.raises(PredictionError, match="not a parquet file"):
        read_predictions(text)
    empty = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(write_parquet(made_rows(), empty)).slice(0, 0), empty)
    with pytest.raises(PredictionError, match="holds no row"):
        read_predictions(empty)
