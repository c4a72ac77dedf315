"""Damaged files of the generator's studies: each is refused in one line, with its name and exit status 10."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.validation.test_generator_few import toshiba
from tests.validation.test_generator_privacy import write as write_privacy
from tests.validation.test_generator_stopping import confirmed, facts_of, snapshots
from tests.validation.test_generator_usefulness import study_rows
from validation.cli import app


def table(folder, name, rows):
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def as_text(path, column):
    """The same table with a column as text."""
    read = pq.read_table(path)
    place = read.column_names.index(column)
    pq.write_table(read.set_column(place, column, read[column].cast(pa.string())), path)


def privacy(folder):
    write_privacy(folder, np.random.default_rng(0))
    return json.loads((folder / "privacy.json").read_text())


def stop(folder):
    rows = snapshots()
    table(folder, "stop", rows)
    return facts_of(rows, 50)


def study(folder):
    table(folder, "diagnosis", study_rows({"real": 1.0, "gen-1": 1.0}, patients=60, seeds=(1,)))
    return {"learned": {"images": 10}, "arms": {"gen-1": {"real": False, "times": 1}}}


def confirm(folder):
    table(folder, "confirm", confirmed())
    table(folder, "frozen", [row for row in confirmed() if row["set"] == "first"])
    sets = {"first": {"left_out_without_lesion": 0}, "second": {"left_out_without_lesion": 0}}
    return {"day": "2026-01-02", "weights": {"real-seed1": "0" * 64}, "sets": sets}


def refused(folder, *words):
    result = CliRunner().invoke(app, ["generator", str(folder), "--resamples", "100"])
    assert isinstance(result.exception, SystemExit), result.exception
    said = " ".join(result.output.split())
    assert result.exit_code == 10, said
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("make", "name", "key", "wrong"),
    [
        (privacy, "privacy", "rejected", "many"),
        (privacy, "privacy", "epochs", "12"),
        (stop, "stop", "epochs", [{"epochs": 25}]),
        (stop, "stop", "chosen", "50"),
        (stop, "stop", "rule", {}),
        (study, "study", "learned", {}),
        (study, "study", "arms", {"gen-1": {"times": 1}}),
        (confirm, "confirm", "day", 3),
        (confirm, "confirm", "weights", None),
        (confirm, "confirm", "sets", {"first": {}}),
    ],
)
def test_facts_of_another_shape(tmp_path, make, name, key, wrong):
    facts = make(tmp_path)
    path = tmp_path / f"{name}.json"
    for damaged in ({**facts, key: wrong}, {k: v for k, v in facts.items() if k != key}, {}, []):
        path.write_text(json.dumps(damaged))
        refused(tmp_path, path.name, "run the verb that writes it again")


@pytest.mark.parametrize(
    ("make", "name", "column"),
    [
        (privacy, "membership", "loss"),
        (privacy, "neighbours", "pixel_distance"),
        (stop, "stop", "loss"),
        (study, "diagnosis", "logit"),
        (study, "diagnosis", "malignant"),
        (confirm, "confirm", "logit"),
    ],
)
def test_text_where_figures_are_computed_from(tmp_path, make, name, column):
    facts = make(tmp_path)
    for own in ("privacy", "stop", "study", "confirm"):
        (tmp_path / f"{own}.json").write_text(json.dumps(facts))
    as_text(tmp_path / f"{name}.parquet", column)
    refused(tmp_path, f"{name}.parquet", f"the column {column} holds string")


def test_losses_of_few_examples_as_text(tmp_path):
    table(tmp_path, "few", toshiba())
    as_text(tmp_path / "few.parquet", "loss")
    refused(tmp_path, "few.parquet", "the column loss holds string")


def test_a_figure_that_cannot_be_computed_is_one_line(tmp_path):
    rows = [row for row in snapshots() if row["part"] == "member"]
    table(tmp_path, "stop", rows)
    facts = {"epochs": [{"epochs": 25, "membership": 0.5}], "chosen": 25, "rule": {"membership_below": 0.55}}
    (tmp_path / "stop.json").write_text(json.dumps(facts))
    refused(tmp_path, "lacks patients learned from, or set aside")
    (tmp_path / "stop.parquet").unlink()
    (tmp_path / "confirm.json").write_text(json.dumps(confirm(tmp_path)))
    table(tmp_path, "confirm", [row for row in confirmed() if not row["malignant"]])
    refused(tmp_path, "busmap validate:")


def test_a_folder_that_is_judged_is_left_as_it_was(tmp_path):
    (tmp_path / "stop.json").write_text(json.dumps(stop(tmp_path)))
    before = sorted(path.name for path in tmp_path.iterdir())
    shown = CliRunner().invoke(app, ["generator", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "50 (chosen)" in shown.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_confirmation_without_the_real_arm_or_of_an_unknown_set(tmp_path):
    facts = confirm(tmp_path)
    (tmp_path / "confirm.json").write_text(json.dumps({**facts, "sets": {"first": facts["sets"]["first"]}}))
    refused(tmp_path, "says nothing of second")
    (tmp_path / "confirm.json").write_text(json.dumps(facts))
    table(tmp_path, "confirm", [row for row in confirmed() if row["arm"] != "real"])
    refused(tmp_path, "lacks the arm real")
    confirm(tmp_path)
    table(tmp_path, "frozen", [row for row in confirmed() if row["set"] == "first" and row["arm"] == "real"])
    refused(tmp_path, "frozen.parquet lacks the arm gen-10")
