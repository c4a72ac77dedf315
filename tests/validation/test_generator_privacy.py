"""Privacy judged from made measures: known rates, and what a generator that copies must raise."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from validation.cli import app
from validation.generator.files import Columns
from validation.generator.privacy import privacy_figures
from validation.predictions import PredictionError

FACTS = {"rejected": 3, "epochs": 12}


def neighbours(random, made=400, real=300, copies=0) -> Columns:
    count = made + real
    kind = np.array(["generated"] * made + ["other"] * real)
    even = np.concatenate([np.linspace(0.5, 1, made), np.linspace(0.5, 1, real)])
    pixel, feature = even.copy(), even - 0.2
    pixel[made - copies : made] = feature[made - copies : made] = 0.01
    patients = {key: random.integers(0, 50, count).astype(str) for key in ("pixel", "feature", "mask")}
    return {
        "kind": kind,
        "pixel_distance": pixel,
        "feature_distance": feature,
        **{f"{key}_patient": value for key, value in patients.items()},
    }


def twins(random, twice=0) -> Columns:
    rows = neighbours(random, copies=twice)
    return {key: rows[key] for key in ("kind", "pixel_distance", "feature_distance")} | {
        "kind": np.where(rows["kind"] == "other", "real", "generated")
    }


def losses(random, known=0.0, patients=(80, 20, 120)) -> Columns:
    parts = {"part": [], "patient_id": [], "loss": []}
    for part, count in zip(("member", "aside", "other"), patients, strict=True):
        for patient in range(count):
            for _ in range(2):
                parts["part"].append(part)
                parts["patient_id"].append(f"{part}{patient}")
                parts["loss"].append(random.normal(1 - known * (part == "member"), 0.2))
    return {key: np.array(values) for key, values in parts.items()}


def judged(seed=0, copies=0, twice=0, known=0.0):
    random = np.random.default_rng(seed)
    return privacy_figures(
        neighbours(random, copies=copies), twins(random, twice), losses(random, known), FACTS, 1
    )


def test_a_generator_that_gives_nothing_away_passes():
    figures = judged()
    for way in ("pixel", "feature"):
        copies = figures.copies[way]
        assert copies.passed
        assert copies.count.value == pytest.approx(0.01, abs=0.0026), "as real pictures themselves"
        assert copies.with_threshold.low < copies.count.interval.low < 0.01
        assert copies.with_threshold.high > copies.count.interval.high, "300 real ones say no more than that"
        assert figures.duplicates[way].passed
        assert figures.retrieval[way]["generated"].chance == pytest.approx(1 / 50, abs=0.01)
        assert figures.retrieval[way]["generated"].p > 0.001
    assert figures.membership.auc.positives == figures.membership.auc.negatives == 80, "as many of both"
    assert figures.aside.auc.positives == 20
    assert (figures.rejected, figures.generated, figures.real) == (3, 400, 300)


def test_keeping_further_away_costs_draws_and_leaves_fewer_copies():
    figures = judged(copies=40)
    assert [one.quantile for one in figures.rejections] == [0.01, 0.02, 0.05, 0.1]
    thrown = [one.thrown_away.count for one in figures.rejections]
    assert thrown == sorted(thrown)
    assert thrown[0] >= 40, "all planted ones are nearer than any real picture"
    for one in figures.rejections:
        assert one.copies["pixel"].count == 0
        assert one.copies["pixel"].total == figures.generated - one.thrown_away.count
        assert one.copies["feature"].count < figures.copies["feature"].count.count
    assert judged(copies=400).rejections == [], "nothing would be left"


def test_copies_and_twins_are_counted():
    for many in (1, 40):
        before, after = judged(), judged(copies=many, twice=many)
        for way in ("pixel", "feature"):
            assert after.copies[way].count.count >= many
            assert after.copies[way].count.count > before.copies[way].count.count
            assert after.duplicates[way].count.count > before.duplicates[way].count.count
    assert not after.copies["pixel"].passed
    assert not after.duplicates["feature"].passed
    assert after.copies["pixel"].threshold == before.copies["pixel"].threshold, "set by real pictures alone"


def test_known_pictures_are_members():
    figures = judged(known=0.5)
    assert not figures.membership.passed
    assert figures.membership.auc.auc > 0.95
    assert not figures.aside.passed
    backwards = judged(known=-0.5)
    assert backwards.membership.auc.auc < 0.05
    assert backwards.membership.passed


def test_an_equal_loss_is_told_in_five_percent_of_studies():
    """The interval of membership holds 0.5 as often as it says (Monte Carlo over made losses)."""
    outside = 0
    for seed in range(300):
        auc = judged_membership(seed)
        outside += not auc.logit.low <= 0.5 <= auc.logit.high
    assert outside <= 30, "5% of 300 are 15; more than 30 has a chance below 1 in 5,000"


def judged_membership(seed):
    from validation.generator.privacy import _membership

    return _membership(losses(np.random.default_rng(seed), patients=(60, 2, 60)), "other", seed).auc


def test_a_patient_found_again_is_no_chance():
    random = np.random.default_rng(5)
    near = neighbours(random)
    near["pixel_patient"][:200] = near["mask_patient"][:200]
    figures = privacy_figures(near, twins(random), losses(random), FACTS, 1)
    found = figures.retrieval["pixel"]["generated"]
    assert found.share.value > 0.5
    assert found.p < 0.01
    assert figures.retrieval["pixel"]["real"].p > 0.001


def write(folder, random, near=None):
    files = {"neighbours": near or neighbours(random), "twins": twins(random), "membership": losses(random)}
    for name, rows in files.items():
        pq.write_table(pa.table(rows), folder / f"{name}.parquet")
    (folder / "privacy.json").write_text(json.dumps(FACTS))


def test_the_report_shows_it(tmp_path):
    write(tmp_path, np.random.default_rng(0), neighbours(np.random.default_rng(0), copies=30))
    result = CliRunner().invoke(app, ["generator", str(tmp_path), "--out", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())["privacy"]
    html = (tmp_path / "report" / "report.html").read_text()
    copies = figures["copies"]["pixel"]["count"]
    assert f"{copies['count']} of {copies['total']}" in html
    assert html.count("<svg") == 3
    assert "missed" in html


def test_half_a_measure_is_refused(tmp_path):
    random = np.random.default_rng(0)
    near = neighbours(random)
    only = {key: value[near["kind"] == "generated"] for key, value in near.items()}
    with pytest.raises(PredictionError, match="lack generated or real"):
        privacy_figures(only, twins(random), losses(random), FACTS, 1)
    write(tmp_path, random)
    (tmp_path / "membership.parquet").unlink()
    result = CliRunner().invoke(app, ["generator", str(tmp_path)])
    assert result.exit_code == 10
    assert "busmap generator privacy" in " ".join(result.output.split())
