"""Training that is killed and resumed, exports against the network, bundles that the product can load."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.data.busbra import read_busbra  # noqa: E402
from models.data.record import data_hash  # noqa: E402
from models.diagnosis.network import DiagnosisNet  # noqa: E402
from models.runtime.onnx_runtime import OnnxRuntimeEngine  # noqa: E402
from models.segmentation.network import LesionNet  # noqa: E402
from models.training.cli import app  # noqa: E402
from models.training.export import DiagnosisExport, ExportError, LesionExport, export  # noqa: E402
from models.training.loop import Limits, LoopSettings, Task, fit  # noqa: E402
from tests.models.made_sets import make_busbra  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
VERB = "from models.training.cli import app; app()"
SETTINGS = LoopSettings(4, 8, 0.01, 0.1, 0.9, 0.3, 7)
EPOCHS = 3
EXPORTER_WARNS = pytest.mark.filterwarnings("ignore:Constant folding:UserWarning")
DEADLINE_S = 120


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny networks gain nothing from more, and the same sums come out on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    yield
    torch.set_num_threads(threads)


def train_verb(kind: str, data: Path, out: Path, **popen) -> subprocess.Popen:
    command = [sys.executable, "-c", VERB, kind, "--data", data, "--out", out, "--folds", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*map(str, command), "--epochs", str(EPOCHS), "--seed", "3"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **popen,
    )


def kill_once_there(process: subprocess.Popen, path: Path) -> None:
    """SIGKILL as soon as `path` exists; fails if the process ends before or takes too long."""
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < deadline
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(process.stdout.read())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output
    return output


def test_a_killed_run_ends_as_one_that_was_not(tmp_path):
    data = make_busbra(tmp_path / "data", patients=20)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = train_verb("diagnosis", data, whole)
    run = killed / "diagnosis" / "2"
    kill_once_there(train_verb("diagnosis", data, killed), run / "checkpoint.pt")
    done = len(json.loads((run / "history.json").read_text())) if (run / "history.json").exists() else 1
    assert 1 <= done < EPOCHS
    assert not (run / "weights.pt").exists()
    finish(train_verb("diagnosis", data, killed))
    finish(undisturbed)
    expected = whole / "diagnosis" / "2"
    assert json.loads((run / "history.json").read_text()) == json.loads(
        (expected / "history.json").read_text()
    )
    assert len(json.loads((run / "history.json").read_text())) == EPOCHS
    one, two = (torch.load(folder / "weights.pt", weights_only=True) for folder in (run, expected))
    assert all(torch.equal(one[key], two[key]) for key in two)
    facts = json.loads((run / "run.json").read_text())
    development = [record for record in read_busbra(data) if record.fold != 5]
    assert facts["data_hash"] == data_hash(development)
    assert (facts["settings"]["seed"], facts["settings"]["epochs"], facts["held_out"]) == (3, EPOCHS, 2)


def test_other_settings_do_not_resume_a_run(tmp_path):
    data = make_busbra(tmp_path / "data", patients=20)

    def lesion(epochs):
        arguments = ["lesion", "--data", data, "--out", tmp_path, "--folds", "final", "--epochs", epochs]
        return CliRunner().invoke(app, [str(item) for item in arguments])

    first = lesion(1)
    assert first.exit_code == 0, first.output
    assert json.loads((tmp_path / "segmentation" / "final" / "run.json").read_text())["held_out"] is None
    second = lesion(2)
    assert second.exit_code == 12
    assert "a run with other settings" in " ".join(second.output.split())
    make_busbra(tmp_path / "other", patients=21)
    again = ["lesion", "--data", tmp_path / "other", "--out", tmp_path, "--folds", "final", "--epochs", 1]
    assert CliRunner().invoke(app, [str(item) for item in again]).exit_code == 12, "other data, another run"


def tiny_batches(epoch):
    generator = torch.Generator().manual_seed(epoch)
    for _ in range(3):
        x = torch.randn(8, 4, generator=generator)
        yield x, x.sum(1, keepdim=True) + 0.1 * torch.randn(8, 1)


def tiny_fit(folder, evaluate=lambda net: {}, **more):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
    task = Task(
        network, tiny_batches, lambda net, batch: ((net(batch[0]) - batch[1]) ** 2).mean(), 3, evaluate
    )
    return fit(task, SETTINGS, folder, "tiny", **more)


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_an_error_in_any_epoch_loses_that_epoch_only(tmp_path, epoch):
    calls = []

    def stop(network):
        calls.append(1)
        if len(calls) == epoch:
            raise KeyboardInterrupt
        return {}

    whole = tiny_fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tiny_fit(tmp_path / "cut", stop)
    resumed = tiny_fit(tmp_path / "cut")
    assert resumed.history == whole.history
    kept, expected = resumed.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(kept[key], expected[key]) for key in expected)
    again = tiny_fit(tmp_path / "cut")
    assert again.history == whole.history


def test_what_follows_an_epoch_is_done_again_where_a_kill_came_before(tmp_path):
    seen = []

    def killed(fitted):
        seen.append(len(fitted.history))
        if len(fitted.history) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_fit(tmp_path, after_epoch=killed)
    (tmp_path / "history.json").unlink()
    tiny_fit(tmp_path, after_epoch=lambda fitted: seen.append(len(fitted.history)), limits=Limits(until=2))
    assert seen == [1, 2, 2]
    assert len(json.loads((tmp_path / "history.json").read_text())) == 2


def test_a_run_out_of_time_ends_after_an_epoch_and_says_so(tmp_path):
    for epoch in range(1, SETTINGS.epochs + 1):
        fitted = tiny_fit(tmp_path, limits=Limits.within(0))
        assert (len(fitted.history), fitted.out_of_time) == (epoch, True)
    assert not tiny_fit(tmp_path, limits=Limits.within(0)).out_of_time, "nothing was left to train"
    assert not tiny_fit(tmp_path / "other", limits=Limits.within(60)).out_of_time


@EXPORTER_WARNS
@pytest.mark.parametrize("kind", ["lesion", "diagnosis"])
def test_the_export_answers_like_the_network(tmp_path, kind):
    torch.manual_seed(0)
    side = 64
    if kind == "lesion":
        module, example = LesionExport(LesionNet(pretrained=False)), torch.rand(1, 1, side, side)
        inputs, outputs = ["image"], ["lesion_probability", "features"]
    else:
        module, example = DiagnosisExport(DiagnosisNet(pretrained=False)), torch.rand(1, 2, side, side)
        inputs, outputs = ["crop"], ["malignancy_logit"]
    path = tmp_path / "models" / "model.onnx"
    digest = export(module, example, inputs, outputs, path)
    assert len(digest) == 64
    engine = OnnxRuntimeEngine(path, 1)
    for count in (1, 5):
        batch = torch.rand(count, *example.shape[1:])
        answers = engine.run({inputs[0]: batch.numpy()})
        with torch.no_grad():
            eager = module(batch)
        for name, part in zip(outputs, eager if isinstance(eager, tuple) else (eager,), strict=True):
            spread = max(float(np.ptp(part.numpy())), 1e-3)
            assert np.abs(answers[name] - part.numpy()).max() <= 1e-4 * spread + 1e-5


class Wavering(torch.nn.Module):
    """Answers otherwise in a second call: no export can be true to it."""

    def forward(self, image):
        return image + torch.rand_like(image)


def test_an_export_that_differs_is_not_kept(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="differs from eager mode"):
        export(Wavering(), torch.rand(1, 1, 4, 4), ["image"], ["answer"], path)
    assert not path.exists()


@EXPORTER_WARNS
@pytest.mark.slow
def test_published_bundles_are_loaded_by_the_product(tmp_path, monkeypatch):
    from models.runtime.loaded import load_models
    from models.training import fit_gate
    from validation.predictions import read_predictions

    monkeypatch.setattr(fit_gate, "MINIMUM_FRAMES", 2)  # a tiny set has no more of a device
    monkeypatch.setattr(fit_gate, "MAXIMUM_FRAMES", 8)
    data = make_busbra(tmp_path / "data", patients=15, size=(48, 64))
    runs, bundles = tmp_path / "runs", tmp_path / "bundles"
    torch.manual_seed(0)
    lesion, crop = LesionNet(), DiagnosisNet()
    with torch.no_grad():  # untrained, it marks the whole picture as one lesion
        lesion.last.weight.mul_(0.01)
        lesion.last.bias.fill_(4.0)
    for kind, network in (("segmentation", lesion), ("diagnosis", crop)):
        for name in ("1", "2", "3", "4", "final"):
            (runs / kind / name).mkdir(parents=True)
            torch.save(network.state_dict(), runs / kind / name / "weights.pt")
            (runs / kind / name / "run.json").write_text(json.dumps({"settings": {"seed": 7}}))
            row = {"epoch": 1, "loss": 0.5, "held_out_dice": 0.6, "held_out_auc": 0.7}
            (runs / kind / name / "history.json").write_text(json.dumps([row]))
    arguments = ["publish", "--data", data, "--runs", runs, "--bundles", bundles]
    result = CliRunner().invoke(app, [str(item) for item in arguments])
    assert result.exit_code == 0, result.output
    rows = read_predictions(runs / "out-of-fold.parquet")
    records = {record.image_id: record for record in read_busbra(data)}
    assert {row.image_id for row in rows} == {key for key, one in records.items() if one.fold != 5}
    models = load_models(bundles, 1)
    held = records[rows[0].image_id].grey()
    seen = models.lesion.find(held)
    logits = models.diagnosis.logits(seen.clean, [one.mask for one in seen.lesions])
    assert max(logits) == pytest.approx(rows[0].logit, abs=1e-3)
    card = (bundles / "breast_us_diagnosis" / "docs" / "README.md").read_text()
    assert "seed 7" in card
    assert models.bundles[1].sha256 in card
    assert "not a cleared device" in card.lower()
    assert (bundles / "breast_us_lesion" / "docs" / "curves.png").read_bytes().startswith(b"\x89PNG")
    shutil.rmtree(runs / "diagnosis" / "3")
    missing = CliRunner().invoke(app, [str(item) for item in arguments])
    assert missing.exit_code == 10
    assert "busmap train diagnosis --folds 3" in missing.output
