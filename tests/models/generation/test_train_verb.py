"""`busmap generator train` as a command: devices left out, what the run says of it, snapshots."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

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

STUDY = Path(__file__).resolve().parents[3] / "models" / "generation" / "runs" / "study-12"


def call(data, out, *more):
    options = ["--data", data, "--folds", "1,2", "--out", out, *more]
    return CliRunner().invoke(app, ["train", *map(str, options)])


def test_a_device_left_out_is_not_learned_from(made_data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Settings", lambda: small_settings(2))
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


def test_the_seed_is_that_of_everything_random():
    settings = training.Settings()
    assert settings.with_seed(1) == settings
    kept = json.loads((STUDY / "run.json").read_text())["settings"]
    assert json.loads(json.dumps(asdict(settings))) == kept, "runs that are there go on"
    other = settings.with_seed(2)
    assert (other.seed, other.autoencoder.loop.seed, other.flow.loop.seed) == (2, 2, 2)
    assert other.with_seed(1) == settings, "and nothing else changes"


def test_two_seeds_give_different_weights(made_data, tmp_path, monkeypatch):
    few = small_settings(1)
    short = replace(few.autoencoder, loop=replace(few.autoencoder.loop, epochs=1))
    monkeypatch.setattr(training, "Settings", lambda: replace(few, autoencoder=short, shown=1, judged=2))
    for seed in (1, 2):
        run = tmp_path / str(seed)
        stopped = call(made_data, run, "--seed", seed, "--minutes", 0)
        assert stopped.exit_code == 0, stopped.output
        assert "The same command goes on" in " ".join(stopped.output.split())
        assert not (run / "product").exists(), "the time was over before the flow"
        done = call(made_data, run, "--seed", seed)
        assert done.exit_code == 0, done.output
        assert f"{seed}/product" in "".join(done.output.split())
        settings = json.loads((run / "run.json").read_text())["settings"]
        assert {settings[part]["loop"]["seed"] for part in ("autoencoder", "flow")} == {seed}
    one, other = (load_generator(tmp_path / str(seed) / "product", torch.device("cpu")) for seed in (1, 2))
    for part in ("autoencoder", "flow"):
        kept, changed = (getattr(made, part).state_dict() for made in (one, other))
        assert not any(torch.equal(kept[key], changed[key]) for key in kept if kept[key].ndim > 1)


def test_a_device_that_is_not_there_is_not_left_out_in_silence(made_data, tmp_path):
    refused = call(made_data, tmp_path / "run", "--exclude-device", "Philips")
    assert refused.exit_code == 10
    assert "TOSHIBA Aplio" in refused.output
    assert not (tmp_path / "run").exists()
