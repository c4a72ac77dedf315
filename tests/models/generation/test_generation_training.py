"""Training the shipping generator: it learns, goes on after a kill, and its product starts the next stage."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from models.data.record import DataError  # noqa: E402
from models.generation.autoencoder import draw_noise  # noqa: E402
from models.generation.flow import FlowNet, Request, drop_out, joined  # noqa: E402
from models.generation.product import WEIGHTS, load_generator  # noqa: E402
from models.generation.texture import Features, TextureWeights, texture_loss  # noqa: E402
from models.generation.train import Stage, train  # noqa: E402
from models.generation.train_autoencoder import AutoencoderTraining, Players  # noqa: E402
from models.generation.train_flow import flow_loss  # noqa: E402
from models.training.run import RunDiffersError  # noqa: E402
from tests.models.generation.small_stage import (  # noqa: E402
    AUTOENCODER,
    FACTS,
    FLOW,
    learning_records,
    run_stage,
    small_settings,
)
from tests.waiting import wait_until  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 120
CPU = torch.device("cpu")
STAGE = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.models.generation.small_stage import run_stage
run_stage(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def request(count: int, side: int = 32) -> Request:
    mask = torch.zeros(count, 1, side, side)
    mask[:, :, 8:24, 8:24] = 1
    labels = torch.tensor([[2, 1, 3, 2]]).repeat(count, 1)
    return Request(
        mask,
        torch.zeros(count, 1, side // 8, side // 8),
        labels,
        torch.full((count,), 0.8),
        torch.ones(count, 3),
    )


def test_steps_on_one_batch_lower_the_flow_s_loss():
    torch.manual_seed(0)
    network = FlowNet(replace(FLOW, dropout=0.0))
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    batch = (torch.randn(8, 4, 4, 4), torch.randn(8, 4, 4, 4), torch.rand(8), *request(8).parts())
    losses = []
    for _ in range(60):
        loss = flow_loss(network, batch, low_precision=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_steps_on_one_batch_bring_back_anatomy_and_texture():
    torch.manual_seed(0)
    players, features = Players(AutoencoderTraining(network=AUTOENCODER)), Features()
    optimizer = torch.optim.AdamW(players.parameters(), 3e-3)
    mask = request(4, 64).mask
    grey = (0.3 + 0.1 * torch.randn(4, 1, 64, 64) - 0.2 * mask).clamp(0, 1)
    noise = draw_noise(4, 64, CPU)
    batch = (grey, mask, torch.randn(4, 4, 8, 8), *noise)

    def apart() -> float:
        with torch.no_grad():
            latent, _ = players.autoencoder.encoder(grey, mask)
            drawn = players.autoencoder.decoder(latent, mask, noise)
            return float(texture_loss(features, drawn, grey, TextureWeights()))

    before = apart()
    critic = [parameter.detach().clone() for parameter in players.critic.parameters()]
    for _ in range(25):
        loss = players(features, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert apart() < 0.75 * before
    changed = [not torch.equal(a, b) for a, b in zip(critic, players.critic.parameters(), strict=True)]
    assert all(changed), "the critic learns too"


def test_the_decoder_draws_texture_from_its_noise(generator):
    mask = request(2, 128).mask
    latent = torch.zeros(2, 4, 16, 16)
    one, two = (
        generator.autoencoder.decoder(
            latent, mask, draw_noise(2, 128, CPU, torch.Generator().manual_seed(seed))
        )
        for seed in (1, 2)
    )
    again = generator.autoencoder.decoder(
        latent, mask, draw_noise(2, 128, CPU, torch.Generator().manual_seed(1))
    )
    assert torch.equal(one, again)
    assert (one - two).abs().mean() > 1e-4


def test_unknown_no_lesion_and_mask_each_change_what_the_flow_does():
    torch.manual_seed(0)
    network = FlowNet(FLOW).eval()
    latent, times = torch.randn(1, 4, 4, 4), torch.tensor([0.5])
    asked = request(1)
    with torch.no_grad():
        base = network(latent, times, asked)
        for label in (0, 1, 3):
            labels = asked.labels.clone()
            labels[:, 0] = label
            assert not torch.allclose(network(latent, times, replace(asked, labels=labels)), base)
        known = asked.known.clone()
        known[:, 0] = 0
        without = network(latent, times, replace(asked, known=known))
        assert not torch.allclose(without, base)
        empty = replace(asked, mask=torch.zeros_like(asked.mask))
        assert not torch.allclose(network(latent, times, empty), without), (
            "an empty mask is not an unknown one"
        )
        both = joined([asked, asked.unknown()])
        pair = network(latent.repeat(2, 1, 1, 1), times.repeat(2), both)
        free = network(latent, times, asked.unknown())
    assert torch.allclose(pair[1:], free, atol=1e-5)


def test_what_is_asked_is_dropped_image_by_image():
    torch.manual_seed(0)
    dropped = drop_out(request(4000), everything=0.1, one=0.1, marks=0.3)
    gone = torch.cat([dropped.labels == 0, dropped.known == 0], dim=1).double()
    everything = gone.all(1).double().mean()
    assert everything == pytest.approx(0.1, abs=0.02)
    expected = [0.1 + 0.9 * p for p in (0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.1)]
    assert gone.mean(0).tolist() == pytest.approx(expected, abs=0.025)
    rest = gone[~gone.all(1)]
    apart = np.corrcoef(rest.T.numpy())
    assert np.abs(apart - np.eye(7)).max() < 0.08, "each on its own"


def test_a_killed_stage_ends_as_one_that_was_not(made_data, stage, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE, str(made_data), str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    checkpoint = out / "autoencoder" / "checkpoint.pt"
    wait_until(lambda: checkpoint.exists() or process.poll() is not None, "a checkpoint", DEADLINE_S)
    assert process.poll() is None, process.stdout.read()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "product" / WEIGHTS).exists()
    run_stage(made_data, out)
    for name in ("autoencoder/history.json", "flow/history.json", f"product/{WEIGHTS}", "product/kid.json"):
        assert (out / name).read_bytes() == (stage / name).read_bytes(), name


def test_a_stage_killed_in_the_flow_ends_as_one_that_was_not(made_data, stage, tmp_path):
    """Three kills of one run, at moments the worker names; the autoencoder is taken over to save time."""
    runs = whole, killed = tmp_path / "whole", tmp_path / "killed"
    for run in runs:
        shutil.copytree(stage, run, ignore=shutil.ignore_patterns("flow", "product"))
    worker = subprocess.run(
        [sys.executable, "-m", "tests.models.generation.killed_worker", *map(str, (made_data, *runs))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert worker.returncode == 0, worker.stderr
    found = [json.loads(line) for line in worker.stdout.splitlines() if line.startswith("{")]
    assert [row["died_by"] for row in found] == [signal.SIGKILL] * 3
    assert [row["kept"] for row in found] == [1, 2, 3], "epochs in the checkpoint"
    assert [row["snapshots"] for row in found] == [[1], [1], [1, 2, 3]], "the second kill came before one"
    assert [row["product"] for row in found] == [None, None, [2, 2, 2]], "weights, history and KID agree"
    names = sorted(path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file())
    assert names == sorted(
        path.relative_to(killed).as_posix() for path in killed.rglob("*") if path.is_file()
    )
    assert sum(name.startswith("snapshots/") for name in names) == 3
    for name in names:
        if not name.endswith("checkpoint.pt"):
            assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    for name in (WEIGHTS, "kid.json", "history.json", "grid.png"):
        assert (killed / "product" / name).read_bytes() == (stage / "product" / name).read_bytes(), name


def test_time_bounds_the_autoencoder_too_and_the_same_command_goes_on(made_data, stage, tmp_path):
    calls = 0
    while not run_stage(made_data, tmp_path, stage=Stage(minutes=0)):
        calls += 1
        history = json.loads((tmp_path / "autoencoder" / "history.json").read_text())
        assert len(history) == calls, "an epoch a call"
        assert not (tmp_path / "product").exists()
    assert calls == 2
    assert len(json.loads((tmp_path / "flow" / "history.json").read_text())) == 1
    assert run_stage(made_data, tmp_path)
    assert (tmp_path / "product" / WEIGHTS).read_bytes() == (stage / "product" / WEIGHTS).read_bytes()


def test_the_product_is_half_precision_and_names_its_making(stage, generator):
    product = stage / "product"
    assert generator.digest == hashlib.sha256((product / WEIGHTS).read_bytes()).hexdigest()
    with safe_open(product / WEIGHTS, "pt") as file:
        networks = [key for key in file.keys() if not key.startswith("prior.")]  # noqa: SIM118
        assert {file.get_tensor(key).dtype for key in networks} == {torch.float16}
    kept = torch.load(stage / "flow" / "checkpoint.pt", weights_only=True)["average"]
    for key, value in generator.flow.state_dict().items():
        assert torch.equal(value, kept[key].half().float())
    facts = generator.facts
    assert (facts["folds"], facts["epochs"], facts["seed"]) == ([1, 2], 3, 3)
    assert facts["images_seen"] == 3 * 3 * 4
    for name in ("history.json", "curves.png", "grid.png", "run.json", "kid.json", "autoencoder-grid.png"):
        assert (product / name).stat().st_size > 0


def test_the_product_alone_starts_the_next_stage(made_data, stage, generator, tmp_path):
    run_stage(made_data, tmp_path / "next", 5, Stage(start=stage / "product", decoder_epochs=1))
    history = json.loads((tmp_path / "next" / "product" / "history.json").read_text())
    assert history[:3] == json.loads((stage / "product" / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    later = load_generator(tmp_path / "next" / "product", CPU)
    assert later.facts["epochs"] == 5
    kept, learned = generator.autoencoder.state_dict(), later.autoencoder.state_dict()
    for key in kept:
        assert torch.equal(kept[key], learned[key]) != key.startswith("decoder"), key
    with pytest.raises(RunDiffersError):
        run_stage(made_data, tmp_path / "next", flow_epochs=6)


def test_a_stage_on_other_patients_does_not_go_on_from_a_product(made_data, stage, tmp_path):
    records = [record for record in learning_records(made_data) if record.fold == 1]
    with pytest.raises(RunDiffersError, match="other patients were set aside"):
        train(records, tmp_path / "next", FACTS, small_settings(), Stage(start=stage / "product"))


def test_a_product_that_is_cut_short_or_foreign_is_refused(stage, tmp_path):
    whole = (stage / "product" / WEIGHTS).read_bytes()
    for content in (b"", whole[:1000], whole[: len(whole) // 2]):
        (tmp_path / WEIGHTS).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            load_generator(tmp_path, CPU)
    save_file({"flow.weight": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(DataError, match="another format"):
        load_generator(tmp_path, CPU)
    with pytest.raises(DataError, match="cannot be read"):
        load_generator(tmp_path / "nowhere", CPU)
