"""The stopping point and the confirmation judged from made scores: areas by hand, rises, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from validation.cli import app
from validation.generator.stopping import stopping_figures
from validation.predictions import PredictionError


def snapshots(risen=0.0, members=80, aside=20, seed=0):
    """Three snapshots; members' losses fall by `risen` of a standard deviation from one to the next."""
    random = np.random.default_rng(seed)
    own = random.standard_normal(members + aside)
    return [
        {
            "epochs": 25 * (step + 1),
            "part": "member" if i < members else "aside",
            "patient_id": f"p{i:03d}",
            "malignant": i % 3 == 0,
            "loss": float(2 + own[i] + 0.05 * random.standard_normal() - risen * step * (i < members)),
        }
        for step in range(3)
        for i in range(members + aside)
    ]


def facts_of(rows, chosen):
    stated = []
    for epochs in sorted({row["epochs"] for row in rows}):
        own = [row for row in rows if row["epochs"] == epochs]
        auc = roc_auc_score([row["part"] == "member" for row in own], [-row["loss"] for row in own])
        stated.append({"epochs": epochs, "membership": auc, "aside_loss": 1.0})
    return {"epochs": stated, "chosen": chosen, "rule": {"membership_below": 0.55}}


def columns(rows):
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_a_rise_is_told_where_the_area_itself_is_not():
    flat = stopping_figures(columns(snapshots()), facts_of(snapshots(), 75))
    rows = snapshots(risen=0.15)
    rising = stopping_figures(columns(rows), facts_of(rows, 25))
    assert flat.snapshots[0].rise is None
    assert all(one.rise.interval.low <= 0 <= one.rise.interval.high for one in flat.snapshots[1:])
    last = rising.snapshots[-1]
    assert last.membership.logit.low < 0.55 < last.membership.logit.high, "so few say nothing of the area"
    assert last.rise.interval.low > 0, "and yet of the rise"
    for one, stated in zip(rising.snapshots, facts_of(rows, 25)["epochs"], strict=True):
        assert one.membership.auc == pytest.approx(stated["membership"])
    aside = [row["loss"] for row in rows if (row["epochs"], row["part"]) == (50, "aside")]
    assert rising.snapshots[1].aside_loss == pytest.approx(np.mean(aside))


def test_files_that_do_not_belong_together_are_refused():
    rows = snapshots()
    with pytest.raises(PredictionError, match="disagree"):
        stopping_figures(columns(rows), facts_of(snapshots(seed=1), 75))
    with pytest.raises(PredictionError, match="disagree"):
        stopping_figures(columns(rows), facts_of(rows[:200], 75))
    with pytest.raises(PredictionError, match="different patients"):
        stopping_figures(columns(rows[:-1]), facts_of(rows, 75))


def test_the_report_marks_the_choice(tmp_path):
    rows = snapshots(risen=0.15)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "stop.parquet")
    (tmp_path / "stop.json").write_text(json.dumps(facts_of(rows, 50)))
    result = CliRunner().invoke(app, ["generator", str(tmp_path), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    html = (tmp_path / "report.html").read_text()
    assert "50 (chosen)" in html
    assert html.count("<svg") == 1
    assert "80 patients learned from, 20 set aside" in html


def confirmed():
    random = np.random.default_rng(2)
    return [
        {
            "set": name,
            "arm": arm,
            "seed": seed,
            "image_id": f"{name}-{i}",
            "patient_id": f"{name}-{i}",
            "device": "made",
            "malignant": i % 3 == 0,
            "logit": float(random.standard_normal() + 1.5 * (i % 3 == 0)),
        }
        for name, count in (("first", 60), ("second", 45))
        for arm in ("real", "gen-10", "both")
        for seed in (1, 2)
        for i in range(count)
    ]


def test_the_confirmation_is_judged_set_by_set(tmp_path):
    rows = confirmed()
    weights = {f"{arm}-seed{seed}": str(seed) * 64 for arm in ("real", "gen-10", "both") for seed in (1, 2)}
    sets = {"first": {"left_out_without_lesion": 0}, "second": {"left_out_without_lesion": 4}}
    facts = {"day": "2026-01-02", "weights": weights, "sets": sets}
    (tmp_path / "confirm.json").write_text(json.dumps(facts))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "confirm.parquet")
    frozen = [row for row in rows if row["set"] == "first"]
    pq.write_table(pa.Table.from_pylist(frozen), tmp_path / "frozen.parquet")
    result = CliRunner().invoke(app, ["generator", str(tmp_path), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())["confirmation"]["sets"]
    for name in sets:
        own: dict[str, list[float]] = {}
        for row in rows:
            if (row["set"], row["arm"]) == (name, "gen-10"):
                own.setdefault(row["patient_id"], []).append(row["logit"])
        truth = [int(patient.split("-")[1]) % 3 == 0 for patient in own]
        expected = roc_auc_score(truth, [np.mean(values) for values in own.values()])
        assert figures[name]["gen-10"]["auc"]["auc"] == pytest.approx(expected)
        point = figures[name]["gen-10"]["at_frozen"]
        called = [np.mean(values) >= point["threshold"] for values in own.values()]
        hits = sum(one and malignant for one, malignant in zip(called, truth, strict=True))
        assert (point["sensitivity"]["count"], point["sensitivity"]["total"]) == (hits, sum(truth))
        assert f"sensitivity {hits / sum(truth):.3f}" in (tmp_path / "heldout-log.md").read_text()
    assert figures["first"]["gen-10"]["at_frozen"]["sensitivity"]["count"] == 20, "at least 95% of 20"
    first, second = (tmp_path / "heldout-log.md").read_text().splitlines()
    assert "first, 60 patients (20 malignant) |" in first
    assert "second, 45 patients (15 malignant), 4 without a lesion left out |" in second
    assert all(line.startswith("| 2026-01-02 |") and line.count("|") == 7 for line in (first, second))
    pq.write_table(pa.Table.from_pylist(rows[:-1]), tmp_path / "confirm.parquet")
    refused = CliRunner().invoke(app, ["generator", str(tmp_path)])
    assert refused.exit_code == 10
    assert "judged other images" in " ".join(refused.output.split())
