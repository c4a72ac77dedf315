"""Training in two processes, as torchrun starts them, against training in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from models.data.busbra import read_busbra  # noqa: E402
from models.generation.paper import train as training  # noqa: E402
from models.generation.paper.run import read_run  # noqa: E402
from models.generation.product import load_generator  # noqa: E402
from tests.models.generation.ranks_worker import draws, run_exact_stage  # noqa: E402
from tests.models.generation.small import small_settings  # noqa: E402
from tests.models.made_sets import make_busbra  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
# Relative. Sums of gradients run in another order, nothing else differs: up to 3e-7 was seen. The flow learns
# on the autoencoder's latents, which are rounded to half precision: up to 2e-5 was seen.
TOLERANCE, AFTER_ROUNDING = 1e-5, 2e-4


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, "-m", "tests.models.generation.ranks_worker", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in json.loads((run / "history.json").read_text())]


def test_two_ranks_have_the_loss_curve_of_one_and_go_on_where_one_was_stopped(tmp_path, monkeypatch):
    data = make_busbra(tmp_path / "data", patients=12, size=(40, 56))
    records = [record for record in read_busbra(data) if record.fold != 5]
    chosen = small_settings(epochs=3, dropout=0.0)
    whole = training.train(records, tmp_path / "one", chosen)
    real = training.batches

    def stopping(pictures, settings, epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        return real(pictures, settings, epoch)

    monkeypatch.setattr(training, "batches", stopping)
    with pytest.raises(KeyboardInterrupt):
        training.train(records, tmp_path / "stopped", chosen)

    run_exact_stage(data, tmp_path / "stage-one")
    result = torchrun(data, tmp_path / "two", tmp_path / "stopped")
    assert result.returncode == 0, result.stderr
    expected = whole.network.state_dict()
    for name in ("two", "stopped"):
        curve = losses(tmp_path / name)
        assert curve == pytest.approx([row["loss"] for row in whole.history], rel=TOLERANCE)
        kept = read_run(tmp_path / name).network.state_dict()
        assert all(torch.allclose(kept[key], expected[key], atol=1e-3) for key in expected)
    assert result.stdout.count("epoch 3.0000") == 2, "the first process alone speaks"

    for part, tolerance in (("autoencoder", TOLERANCE), ("flow", AFTER_ROUNDING)):
        one, two = (losses(tmp_path / f"stage-{name}" / part) for name in ("one", "two"))
        assert len(one) == 2
        assert two == pytest.approx(one, rel=tolerance)
    made = load_generator(tmp_path / "stage-two" / "product", torch.device("cpu"))
    assert made.facts["epochs"] == 2

    for rank in (0, 1):
        told = (tmp_path / f"refused-{rank}-of-2").read_text()
        assert "a batch of 3 does not divide among 2 processes: give a batch size" in told
    (own, shared), (other, same) = (torch.load(tmp_path / f"drawn-{rank}.pt") for rank in (0, 1))
    assert not torch.equal(own, other), "what a network draws differs"
    assert torch.equal(shared, same), "what batches are drawn from does not"
    assert torch.equal(shared, draws()[1]), "nor does it with the number of processes"
