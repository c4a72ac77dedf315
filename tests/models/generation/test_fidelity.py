"""Fidelity measured by networks of the other half, on tiny data, and judged from its files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.data.busbra import read_busbra  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.draw import Asked  # noqa: E402
from models.generation.flow import Solver  # noqa: E402
from models.generation.repository import Shard, fill  # noqa: E402
from models.generation.study.fidelity import measure_fidelity  # noqa: E402
from models.generation.study.privacy import half_of  # noqa: E402
from models.generation.study.run import StudySettings  # noqa: E402
from models.segmentation import train as segmentation  # noqa: E402
from models.training.run import RunDiffersError  # noqa: E402
from validation.cli import app as validate  # noqa: E402


def test_fidelity_from_pictures_to_report(made_data, stage, generator, tmp_path, monkeypatch):
    asked = Asked(0.0, 0.5, 0.2, ("GE Logiq 5", "GE Logiq 7"), 0, 0)
    fill(generator, tmp_path / "drawn", asked, Solver(steps=1), 5, Shard(0, 24))
    options = {
        "--data": made_data,
        "--model": stage / "product",
        "--repository": tmp_path / "drawn",
        "--out": tmp_path / "fidelity",
        "--count": 24,
        "--epochs": 1,
    }
    arguments = ["fidelity", *(str(part) for pair in options.items() for part in pair)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "fidelity"
    records = [record for record in read_busbra(made_data) if record.fold in (1, 2)]
    rows = pq.read_table(folder / "obedience.parquet").to_pylist()
    assert {row["id"] for row in rows if row["set"] == "learned"} == {record.image_id for record in records}
    assert {row["device"] for row in rows if row["set"] == "generated"} <= set(asked.devices)
    other = {record.device for record in read_busbra(made_data) if record.fold in (3, 4)}
    assert {row["device_seen"] for row in rows} <= other, "the classifier of devices knows the other half"
    with np.load(folder / "features.npz") as features:
        seen = {name: len(features[name]) for name in features}
        assert features["outline_learned"].shape[1] == 432
    counts = {"generated": 24, "learned": len(records)}
    assert seen == {f"{net}_{name}": n for net in ("imagenet", "outline") for name, n in counts.items()}, (
        "no network looks at pictures that it was trained on"
    )
    sets = {row["set"] for row in pq.read_table(folder / "speckle.parquet").to_pylist()}
    assert sets == {"generated", "learned", "other"}
    judged = CliRunner().invoke(
        validate, ["generator", str(folder), "--resamples", "100", "--out", str(folder)]
    )
    assert judged.exit_code == 0, judged.output
    figures = json.loads((folder / "figures.json").read_text())["fidelity"]
    assert figures["obedience"]["learned"]["pictures"] == len(records)
    trained = []
    monkeypatch.setattr(segmentation, "fit_on", lambda *a, **k: trained.append(1))
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert not trained, "what looks at the pictures is trained once"
    fill(generator, tmp_path / "others", asked, Solver(steps=1), 6, Shard(0, 24))
    swapped = [str(tmp_path / "others") if one == str(tmp_path / "drawn") else one for one in arguments]
    refused = CliRunner().invoke(app, swapped)
    assert refused.exit_code == RunDiffersError.exit_status, "the measures of another repository"
    one_device(made_data, generator, folder, tmp_path)
    assert not trained


def one_device(made_data, generator, folder, tmp_path):
    """The same measures where the other half is of a single device: nothing can tell devices there."""
    records = read_busbra(made_data)
    own = [record for record in records if record.fold in (1, 2)]
    alike = [replace(record, device="GE Logiq 5") for record in records if record.fold in (3, 4)]
    facts = {**generator.facts, "validation_patients": ()}
    learned, other = (half_of(part, facts, folder / "frames") for part in (own, alike))
    settings = StudySettings()
    settings = replace(
        settings,
        diagnosis=replace(settings.diagnosis, epochs=1),
        segmentation=replace(settings.segmentation, epochs=1),
    )
    out = tmp_path / "one"
    shutil.copytree(folder / "judges", out / "judges")
    measure_fidelity(generator, learned, other, tmp_path / "drawn", out, 24, settings)
    rows = pq.read_table(out / "obedience.parquet").to_pylist()
    assert {row["device_seen"] for row in rows} == {""}
    judged = CliRunner().invoke(validate, ["generator", str(out), "--resamples", "100", "--out", str(out)])
    assert judged.exit_code == 0, judged.output
    figures = json.loads((out / "figures.json").read_text())["fidelity"]["obedience"]["generated"]
    assert figures["device"] is None
    assert figures["by_device"] == {}
    assert "not told: one device" in (out / "report.html").read_text()
