"""The stopping point: the rule, snapshots of a run, a flow that learns by heart, what is left behind."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.data.record import DataError  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.product import (  # noqa: E402
    WEIGHTS,
    encoder_digest,
    load_generator,
    read_flow,
    save_snapshot,
)
from models.generation.study import stopping  # noqa: E402
from models.generation.study.membership import losses_at, trials_of  # noqa: E402
from models.generation.study.privacy import half_of  # noqa: E402
from models.generation.study.stopping import Epoch, choose, snapshots_of  # noqa: E402
from models.generation.train import Stage, snapshot_path, train  # noqa: E402
from models.generation.train_flow import FlowTraining, encode, train_flow  # noqa: E402
from tests.models.generation.small_stage import (  # noqa: E402
    FACTS,
    FLOW,
    learning_records,
    run_stage,
    small_settings,
)
from tests.models.generation.test_privacy import chosen as chosen_frames  # noqa: E402
from tests.models.generation.test_privacy import pool_of  # noqa: E402
from validation.cli import app as validate  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("areas", "losses", "chosen"),
    [
        ((0.50, 0.52, 0.54), (1.0, 0.9, 0.8), 30),
        ((0.50, 0.52, 0.56), (1.0, 0.9, 0.8), 20),
        ((0.50, 0.55, 0.50), (1.0, 0.9, 0.8), 10),  # what lies behind the first that fails is not looked at
        ((0.50, 0.52, 0.54), (1.0, 0.9, 0.908), 30),
        ((0.50, 0.52, 0.54), (1.0, 0.9, 0.910), 20),
        ((0.56, 0.52, 0.54), (1.0, 0.9, 0.8), None),
    ],
)
def test_the_rule_stops_before_the_first_that_fails(areas, losses, chosen):
    epochs = [Epoch(10 * (i + 1), *pair) for i, pair in enumerate(zip(areas, losses, strict=True))]
    found = choose(reversed(epochs))
    assert (found and found.epochs) == chosen


@pytest.fixture(scope="module")
def run(made_data, stage, tmp_path_factory):
    """A second small stage that keeps a snapshot every epoch."""
    out = tmp_path_factory.mktemp("later") / "run"
    settings = small_settings(6)
    records = learning_records(made_data)
    train(records, out, FACTS, settings, Stage(start=stage / "product", snapshot_every=1))
    return out


def judge(made_data, run, out, *more):
    options = ["--data", made_data, "--out", out, *(part for one in run for part in ("--run", one)), *more]
    return CliRunner().invoke(app, ["stop", *map(str, options)])


def test_a_snapshot_is_the_flow_of_its_epoch(run, stage):
    files = snapshots_of([stage, run])
    assert list(files) == [3, 4, 5, 6]
    assert files[3] == stage / "product" / WEIGHTS
    assert all(path.parent.name == "snapshots" for epochs, path in files.items() if epochs > 3)
    average = torch.load(run / "flow" / "checkpoint.pt", weights_only=True)["average"]
    weights, facts = read_flow(files[6])
    assert facts["epochs"] == 6
    assert all(torch.equal(value, average[key].half()) for key, value in weights.items())
    assert any(not torch.equal(read_flow(files[5])[0][key], value) for key, value in weights.items())
    product = load_generator(run / "product", CPU)
    assert facts["encoder"] == encoder_digest(product.autoencoder.state_dict())


def test_the_verb_judges_every_epoch_and_keeps_the_one_chosen(made_data, run, stage, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "BOUND", 1.1)  # one patient in five of eight says nothing
    monkeypatch.setattr(stopping, "RISE", 10.0)
    out = tmp_path / "stop"
    result = judge(made_data, [stage, run], out)
    assert result.exit_code == 0, result.output
    assert "Stopping point: 6 epochs" in result.output
    assert (out / "product" / WEIGHTS).read_bytes() == (run / "product" / WEIGHTS).read_bytes()
    content = json.loads((out / "stop.json").read_text())
    assert [one["epochs"] for one in content["epochs"]] == [3, 4, 5, 6]
    rows = pq.read_table(out / "stop.parquet").to_pylist()
    aside = set(load_generator(run / "product", CPU).facts["validation_patients"])
    assert {row["patient_id"] for row in rows if row["part"] == "aside"} == aside
    assert len(rows) == 4 * len({record.patient_id for record in learning_records(made_data)})
    judged = CliRunner().invoke(validate, ["generator", str(out), "--out", str(out)])
    assert judged.exit_code == 0, judged.output
    figures = json.loads((out / "figures.json").read_text())["stopping point"]
    assert [one["epochs"] for one in figures["snapshots"]] == [3, 4, 5, 6]
    assert figures["chosen"] == 6
    assert "6 (chosen)" in (out / "report.html").read_text()
    monkeypatch.setattr(stopping, "losses_at", lambda *arguments: pytest.fail("judged twice"))
    assert judge(made_data, [stage, run], out).exit_code == 0


def test_an_earlier_epoch_becomes_a_product_that_training_goes_on_from(
    made_data, run, stage, tmp_path, monkeypatch
):
    chosen = Epoch(4, 0.5, 1.0)
    monkeypatch.setattr(stopping, "choose", lambda judged: chosen)
    out = tmp_path / "stop"
    own = tmp_path / "run"
    shutil.copytree(run, own)
    result = judge(made_data, [own], out, "--final")
    assert result.exit_code == 0, result.output
    assert not (own / "snapshots").exists(), "a final choice leaves no snapshot behind"
    product = load_generator(out / "product", CPU)
    assert product.facts["epochs"] == 4
    assert product.facts["images_seen"] == 4 * 3 * 4
    weights, _ = read_flow(run / "snapshots" / "000004.safetensors")
    for key, value in product.flow.state_dict().items():
        assert torch.equal(value, weights[key].float())
    run_stage(made_data, tmp_path / "next", 5, Stage(start=out / "product"))
    assert load_generator(tmp_path / "next" / "product", CPU).facts["epochs"] == 5


def test_no_stopping_point_is_told_as_such(made_data, run, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "BOUND", 0.0)
    result = judge(made_data, [run], tmp_path / "stop", "--final")
    assert result.exit_code == 1
    assert "No stopping point" in result.output
    assert json.loads((tmp_path / "stop" / "stop.json").read_text())["chosen"] is None
    assert not (tmp_path / "stop" / "product").exists()
    assert (run / "snapshots").exists(), "nothing was chosen, nothing is deleted"


def test_snapshots_of_other_latents_are_refused(made_data, run, stage, tmp_path):
    foreign = tmp_path / "foreign"
    shutil.copytree(stage / "product", foreign)
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(foreign / WEIGHTS, "pt") as file:
        header = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    key = next(key for key in tensors if key.startswith("autoencoder.encoder."))
    save_file({**tensors, key: tensors[key] + 1}, foreign / WEIGHTS, header)
    refused = judge(made_data, [foreign, run], tmp_path / "stop")
    assert refused.exit_code == 10
    assert "other latents" in " ".join(refused.output.split())


def test_patients_are_judged_by_all_their_pictures_in_turn(made_data, generator, run, tmp_path):
    records = learning_records(made_data)
    half = half_of(records, {**generator.facts, "validation_patients": ()}, tmp_path)
    patients, views = stopping._views(half)
    assert patients == sorted({record.patient_id for record in records})
    for patient, own in zip(patients, views, strict=True):
        pictures = [half.frames.source[place] for place in own]
        assert {records[i].patient_id for i in pictures} == {patient}
        assert len(set(pictures[:2])) == len(set(pictures)), "pictures of a patient in turn"
    trials = trials_of(generator, half.frames, views, 1, draws=4)
    once = losses_at(generator.flow, trials)
    assert np.array_equal(once, losses_at(generator.flow, trials)), "the same draws every time"
    other = trials_of(generator, half.frames, views, 2, draws=4)
    assert not np.array_equal(once, losses_at(generator.flow, other))
    with pytest.raises(DataError, match="no patient was set aside"):
        stopping.stop([run], half, tmp_path / "out", CPU, 2, 1)


def test_a_flow_that_knows_its_patients_by_heart_is_not_chosen(made_data, generator, stage, tmp_path):
    records = learning_records(made_data)
    aside = sorted({record.patient_id for record in records})[::2]
    half = half_of(records, {**generator.facts, "validation_patients": aside}, tmp_path)
    known = np.flatnonzero(
        half.shows_lesion() & np.isin(np.arange(len(half.frames.source)), half.learned_from())
    )
    pool = pool_of(chosen_frames(half.frames, known[::2]))
    settings = FlowTraining()
    settings = replace(
        settings,
        network=replace(FLOW, dropout=0.0),
        steps_per_epoch=120,
        loop=replace(settings.loop, epochs=1, batch_size=16, learning_rate=3e-3, ema_decay=0.95),
    )
    latents = encode(generator.autoencoder, pool, tmp_path, "known", CPU)
    fitted = train_flow((pool, latents), (pool, latents), tmp_path / "flow", settings, CPU)
    about = {"epochs": 9, "encoder": encoder_digest(generator.autoencoder.state_dict())}
    save_snapshot(snapshot_path(tmp_path / "run", 9), fitted.network, about)
    runs = [tmp_path / "run", stage]
    found = stopping.stop(runs, half, tmp_path / "out", CPU, draws=8, seed=1)
    judged = json.loads((tmp_path / "out" / "stop.json").read_text())["epochs"]
    assert judged[-1]["epochs"] == 9
    assert judged[-1]["membership"] > 0.9
    assert judged[0]["membership"] < judged[-1]["membership"]
    assert found is None or found.epochs == 3
