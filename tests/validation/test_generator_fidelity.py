"""Distances between sets of features against closed forms, and fidelity judged from made measures."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from typer.testing import CliRunner

from models.generation.distances import fid, kid, precision_recall
from validation.cli import app
from validation.generator.fidelity import fidelity_figures
from validation.predictions import PredictionError
from validation.statistics.proportions import wilson


def gaussian(seed, n, d, shift=0.0, spread=1.0):
    return np.random.default_rng(seed).standard_normal((n, d)) * spread + shift


@given(st.integers(0, 2**31), st.integers(3, 40), st.integers(3, 40), st.integers(2, 30))
@settings(max_examples=40, deadline=None)
def test_fid_is_the_frechet_distance(seed, n, m, d):
    """Against the textbook form with a matrix root, also with fewer pictures than features."""
    one, other = gaussian(seed, n, d), gaussian(seed + 1, m, d, 0.5, 2.0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    values = np.linalg.eigvals(first @ second)
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(first) + np.trace(second)
    expected -= 2 * np.sqrt(np.maximum(values.real, 0)).sum()
    assert fid(one, other) == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert fid(one, other) == pytest.approx(fid(other, one), abs=1e-8)
    assert fid(one, one) == pytest.approx(0, abs=1e-8)


def test_fid_of_known_gaussians():
    one, other = gaussian(1, 40000, 3), gaussian(2, 40000, 3, 1.0, 2.0)
    assert fid(one, other) == pytest.approx(3 * 1.0 + 3 * (2 - 1) ** 2, rel=0.02)
    root = linalg.sqrtm(np.cov(one, rowvar=False) @ np.cov(other, rowvar=False)).real
    trace = np.trace(np.cov(one, rowvar=False) + np.cov(other, rowvar=False) - 2 * root)
    assert fid(one, other) == pytest.approx(np.square(one.mean(0) - other.mean(0)).sum() + trace, rel=1e-6)


def test_kid_is_unbiased_and_sees_a_shift():
    same = [kid(gaussian(2 * i, 60, 8), gaussian(2 * i + 1, 60, 8)) for i in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(len(same)), "zero on average (Monte Carlo)"
    assert kid(gaussian(1, 60, 8), gaussian(2, 60, 8, 1.0)) > 10 * np.std(same)


def test_precision_and_recall_of_known_sets():
    real = gaussian(1, 400, 2)
    assert precision_recall(real, real) == (1.0, 1.0)
    far = gaussian(2, 400, 2, 50.0)
    assert precision_recall(real, far) == (0.0, 0.0)
    narrow = gaussian(3, 400, 2, 0.0, 0.1)
    precision, recall = precision_recall(real, narrow)
    assert precision > 0.95
    assert recall < 0.2, "a set that shows little misses much"
    wide = gaussian(4, 400, 2, 0.0, 4.0)
    assert precision_recall(real, wide)[0] < 0.5
    forward, backward = precision_recall(real, narrow), precision_recall(narrow, real)
    assert forward == backward[::-1]


def measures(dice=0.85, shift=0.0):
    random = np.random.default_rng(0)
    features = {
        (net, name): gaussian(i, 60, 12, shift if name == "generated" else 0.0)
        for i, (net, name) in enumerate(
            (net, name) for net in ("imagenet", "outline") for name in ("generated", "learned")
        )
    }
    rows, speckle = [], []
    for name in ("generated", "learned", "other"):
        for i in range(60):
            malignant = i % 3 == 0
            if name != "other":
                rows.append(
                    {
                        "set": name,
                        "id": str(i),
                        "patient_id": str(i if name == "generated" else i // 2 * 2 + malignant),
                        "malignant": malignant,
                        "logit": float(random.normal(2 * malignant)),
                        "device": ("one", "two")[i % 2],
                        "device_seen": ("one", "two")[i % 2 if i < 54 else 0],
                        "dice": float(np.clip(random.normal(dice, 0.02), 0, 1)),
                    }
                )
            value = random.normal(shift if name == "generated" else 0, 1, 3) + 5
            values = dict(zip(("shape", "down", "across"), map(float, value), strict=True))
            speckle.append({"set": name, "id": str(i), "patient_id": str(i // 2), **values})
    return features, rows, speckle


def columns(rows):
    table = pa.Table.from_pylist(rows)
    return {name: table[name].to_numpy() for name in table.column_names}


def test_what_differs_is_told_from_what_does_not():
    features, rows, speckle = measures()
    alike = fidelity_figures(features, columns(rows), columns(speckle), resamples=100, seed=1)
    features, rows, speckle = measures(dice=0.6, shift=2.0)
    unlike = fidelity_figures(features, columns(rows), columns(speckle), resamples=100, seed=1)
    assert alike.dice_reached
    assert not unlike.dice_reached
    for network in ("imagenet", "outline"):
        far, near = (f.likeness[network]["generated against learned"] for f in (unlike, alike))
        yardstick = unlike.likeness[network]["learned against learned"]
        assert far.fid.interval.low > near.fid.interval.high
        assert far.kid.interval.low > near.kid.interval.high
        assert far.precision.interval.high < near.precision.interval.low
        assert yardstick == alike.likeness[network]["learned against learned"], "real pictures do not change"
        assert far.size == yardstick.size <= 30, "equal numbers"
        for one in (near, yardstick):
            assert one.kid.interval.low < 0 < one.kid.interval.high, "nothing tells them apart"
        assert near.fid.interval.low < yardstick.fid.value < near.fid.interval.high
    for key in ("shape", "down", "across"):
        assert unlike.speckle[key]["generated"].value > 0.6
        assert alike.speckle[key]["generated"].value < 0.4
    obedience = alike.obedience["generated"]
    assert (obedience.device.share.count, obedience.device.share.total) == (57, 60)
    assert obedience.device.chance == pytest.approx(0.5), "half are asked for, whatever is seen"
    assert obedience.by_device["one"].share.value == 1
    assert obedience.by_device["one"].chance == pytest.approx(33 / 60), "so often it is seen in any picture"
    assert obedience.by_device["one"].share.interval == wilson(30, 30).interval
    assert obedience.lesion_class.auc > 0.8


def test_pictures_of_a_patient_stay_in_one_half():
    """Two copies of each real picture: split, they would be found again and recall would be near 1."""
    features, rows, speckle = measures()
    for network in ("imagenet", "outline"):
        features[network, "learned"] = np.repeat(gaussian(9, 30, 12), 2, 0)
    for row in rows:
        row["patient_id"] = str(int(row["id"]) // 2) if row["set"] == "learned" else row["id"]
        row["malignant"] = int(row["patient_id"]) % 3 == 0
    figures = fidelity_figures(features, columns(rows), columns(speckle), resamples=100, seed=1)
    assert figures.likeness["imagenet"]["learned against learned"].fid.value > 1, "no picture stands in both"
    few = {key: value[:4] for key, value in features.items()}
    fewer = [row for row in rows if int(row["id"]) < 4]
    with pytest.raises(PredictionError, match="too few"):
        fidelity_figures(few, columns(fewer), columns(speckle), resamples=100, seed=1)
    with pytest.raises(PredictionError, match="differ in number"):
        fidelity_figures(few, columns(rows), columns(speckle), resamples=100, seed=1)


def test_the_report_of_all_three(tmp_path):
    features, rows, speckle = measures()
    np.savez(tmp_path / "features.npz", **{f"{net}_{name}": value for (net, name), value in features.items()})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "obedience.parquet")
    pq.write_table(pa.Table.from_pylist(speckle), tmp_path / "speckle.parquet")
    (tmp_path / "fidelity.json").write_text("{}")
    result = CliRunner().invoke(
        app, ["generator", str(tmp_path), "--resamples", "100", "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())["fidelity"]
    dice = figures["obedience"]["generated"]["dice"]["value"]
    assert dice == pytest.approx(np.mean([row["dice"] for row in rows if row["set"] == "generated"]))
    html = (tmp_path / "report.html").read_text()
    assert f"{dice:.3f}" in html
    assert "values do not compare with published ones" in " ".join(html.split())
    assert "by chance 0.5" in html
    assert "delete-d jackknife, by patient" in html
    (tmp_path / "features.npz").write_bytes(b"none")
    broken = CliRunner().invoke(app, ["generator", str(tmp_path)])
    assert broken.exit_code == 10
    assert "busmap generator fidelity" in " ".join(broken.output.split())
