"""`busmap generator train` as a command: devices left out, what the run says of it, snapshots."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.data.busbra import read_busbra  # noqa: E402
from models.data.record import data_hash  # noqa: E402
from models.generation import train as training  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.product import load_generator  # noqa: E402
from models.generation.study.cli import generator_facts, learned_half  # noqa: E402
from models.generation.study.run import halves  # noqa: E402
from models.generation.study.stopping import snapshots_of  # noqa: E402
from tests.models.generation.small_stage import small_settings  # noqa: E402


def call(data, out, *more):
    options = ["--data", data, "--folds", "1,2", "--out", out, *more]
    return CliRunner().invoke(app, ["train", *map(str, options)])


def test_a_device_left_out_is_not_learned_from(made_data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Settings", lambda seed: small_settings(2))
    out = tmp_path / "run"
    done = call(made_data, out, "--exclude-device", "toshiba", "--snapshot-every", 1)
    assert done.exit_code == 0, done.output
    own = [record for record in read_busbra(made_data) if record.fold in (1, 2)]
    kept = [record for record in own if not record.device.startswith("TOSHIBA")]
    assert 0 < len(kept) < len(own)
    assert f"{len(kept)} images" in done.output
    run = json.loads((out / "run.json").read_text())
    assert (run["data_hash"], run["excluded_device"]) == (data_hash(kept), "toshiba")
    generator = load_generator(out / "product", torch.device("cpu"))
    assert sum(generator.facts["devices"].values()) == len({record.patient_id for record in kept})
    assert list(snapshots_of([out])) == [1, 2]
    facts = generator_facts(out / "product")
    half = learned_half(read_busbra(made_data), facts, tmp_path / "frames")
    assert {record.image_id for record in half.records} == {record.image_id for record in kept}
    learned, judged = halves(read_busbra(made_data), facts, (1, 2, 3, 4))
    assert {record.fold for record in judged} == {3, 4}
    assert len(learned) == len(own), "the arms of a study learn from the whole half"


def test_a_device_that_is_not_there_is_not_left_out_in_silence(made_data, tmp_path):
    refused = call(made_data, tmp_path / "run", "--exclude-device", "Philips")
    assert refused.exit_code == 10
    assert "TOSHIBA Aplio" in refused.output
    assert not (tmp_path / "run").exists()
