"""Few examples judged from made scores: areas against scikit-learn's, who is too few, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from validation.cli import app
from validation.generator.few_shot import few_shot_figures
from validation.predictions import PredictionError

PATIENTS, SICK = 90, 30


def rows_of(arm, k, draw, shift, kind="toshiba", patients=PATIENTS, left_out=(), seed=0, loss=1.0):
    """Two images a patient, the first `SICK` malignant, these scored above the others by `shift`."""
    random = np.random.default_rng([seed, k, draw, len(arm)])
    own = np.random.default_rng(9).standard_normal(patients)
    return [
        {
            "kind": kind,
            "arm": arm,
            "k": k,
            "draw": draw,
            "image_id": f"{patient}-{view}",
            "patient_id": f"p{patient:03d}",
            "device": "made",
            "malignant": patient < SICK,
            "logit": float(own[patient] + 0.3 * random.standard_normal() + shift * (patient < SICK)),
            "loss": None if arm == "real" else loss + 0.1 * float(random.standard_normal()),
        }
        for patient in range(patients)
        if patient not in left_out
        for view in range(2)
    ]


def toshiba(shift=2.5):
    rows = rows_of("none", 0, 0, 1.0)
    for draw in (1, 2, 3):
        out = range(5 * draw, 5 * draw + 4)
        rows += rows_of("adapter", 8, draw, shift, left_out=out, loss=0.5)
        rows += rows_of("real", 8, draw, 0.2, left_out=out)
    return rows


def columns(rows):
    named = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "loss"}
    return named | {"loss": np.array([np.nan if row["loss"] is None else row["loss"] for row in rows])}


def area(rows, **which):
    """By hand: one score a patient, scikit-learn's area."""
    own: dict[str, list[float]] = {}
    truth: dict[str, bool] = {}
    for row in rows:
        if all(
            row[key] in value if isinstance(value, set) else row[key] == value for key, value in which.items()
        ):
            own.setdefault(row["patient_id"], []).append(row["logit"])
            truth[row["patient_id"]] = row["malignant"]
    return roc_auc_score([truth[p] for p in own], [np.mean(values) for values in own.values()])


def test_arms_are_compared_on_the_patients_of_their_draw():
    rows = toshiba()
    arms = few_shot_figures(columns(rows), resamples=200, seed=1).kinds["toshiba"]
    assert list(arms) == ["none", "adapter, k = 8", "real, k = 8"]
    adapted = arms["adapter, k = 8"]
    assert (adapted.draws, adapted.patients, adapted.malignant) == (3, PATIENTS - 4, SICK - 4)
    areas, beside = [], []
    for draw in (1, 2, 3):
        judged = {row["patient_id"] for row in rows if (row["arm"], row["draw"]) == ("adapter", draw)}
        areas.append(area(rows, arm="adapter", draw=draw))
        beside.append(areas[-1] - area(rows, arm="none", patient_id=judged))
    assert adapted.auc.value == pytest.approx(np.mean(areas))
    assert adapted.against_base.value == pytest.approx(np.mean(beside))
    assert adapted.against_base.interval.low > 0
    assert arms["real, k = 8"].against_base.interval.high < 0
    assert adapted.loss_against_base.value == pytest.approx(-0.5, abs=0.05)
    assert adapted.loss_against_base.interval.high < -0.4
    assert arms["real, k = 8"].loss is None, "k pictures alone have no generator"
    assert arms["none"].against_base is None
    assert arms["none"].auc.value == pytest.approx(area(rows, arm="none"))


def test_too_few_patients_have_no_area():
    few = rows_of("none", 0, 0, 1.0, patients=SICK + 19) + rows_of("adapter", 8, 1, 2.0, patients=SICK + 19)
    one_class = [row for row in toshiba() if row["malignant"]]
    for rows in (few, one_class):
        arms = few_shot_figures(columns(rows), resamples=50, seed=1).kinds["toshiba"]
        assert all(one.auc is None and one.against_base is None for one in arms.values())
        assert arms["adapter, k = 8"].loss_against_base is not None, "losses are described in any case"


def test_an_interval_holds_no_difference_as_often_as_it_says():
    """Alike arms over made studies: the interval of the difference misses 0 in about 5%."""
    missed = 0
    for seed in range(60):
        rows = rows_of("none", 0, 0, 1.0, seed=seed) + rows_of("adapter", 8, 1, 1.0, seed=seed)
        arms = few_shot_figures(columns(rows), resamples=100, seed=1).kinds["toshiba"]
        interval = arms["adapter, k = 8"].against_base.interval
        missed += not interval.low <= 0 <= interval.high
    assert missed <= 10, "5% of 60 are 3; more than 10 has a chance below 1 in 2,000"


def test_the_report_shows_it_and_half_a_study_is_refused(tmp_path):
    special = [dict(row, kind="special") for row in toshiba() if row["malignant"]]
    pq.write_table(pa.Table.from_pylist(toshiba() + special), tmp_path / "few.parquet")
    result = CliRunner().invoke(
        app, ["generator", str(tmp_path), "--resamples", "100", "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())["few examples"]["kinds"]
    html = (tmp_path / "report.html").read_text()
    assert f"{figures['toshiba']['adapter, k = 8']['auc']['value']:.3f}" in html
    assert html.count("n too small") >= 3
    twice, baseless = [*toshiba(), toshiba()[0]], [row for row in toshiba() if row["arm"] != "none"]
    for rows, message in ((twice, "stands twice"), (baseless, "lacks the arm without adaptation")):
        with pytest.raises(PredictionError, match=message):
            few_shot_figures(columns(rows), resamples=50, seed=1)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "few.parquet")
        refused = CliRunner().invoke(app, ["generator", str(tmp_path)])
        assert refused.exit_code == 10
        assert "busmap generator few-shot" in " ".join(refused.output.split())
    table = pa.Table.from_pylist(toshiba()).drop_columns("loss")
    pq.write_table(table, tmp_path / "few.parquet")
    refused = CliRunner().invoke(app, ["generator", str(tmp_path)])
    assert "lacks the column loss" in " ".join(refused.output.split())
