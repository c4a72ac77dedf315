"""The comparison of speed: what is run, how it is scaled, what it says."""

from __future__ import annotations

import itertools
import json

import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.generation.flow import Solver  # noqa: E402
from models.generation.paper import compare as comparing  # noqa: E402
from models.generation.paper.cli import app  # noqa: E402
from models.generation.paper.compare import Comparison, compare  # noqa: E402
from models.generation.paper.network import PaperUNet  # noqa: E402
from models.generation.paper.speed import FUSED, WHOLE_MAP, PaperTime, time_paper  # noqa: E402
from tests.models.generation.small import NETWORK, SIDE  # noqa: E402


def test_three_evaluations_are_run_and_two_of_them_scaled_to_fifty(monkeypatch):
    asked = []
    real = PaperUNet.forward
    monkeypatch.setattr(
        PaperUNet, "forward", lambda self, *rest: (asked.append(len(rest[0])), real(self, *rest))[1]
    )
    found = time_paper(SIDE, torch.device("cpu"), FUSED, NETWORK)
    assert asked == [1] * 6, "each evaluation asks the network twice, one picture at a time"
    assert len(found.evaluation_seconds) == 2
    assert found.image_seconds == pytest.approx(sum(found.evaluation_seconds) / 2 * 50)


def test_either_attention_gives_the_same_answer():
    from diffusers.models.attention_processor import AttnProcessor

    from models.generation.paper.speed import _attend_by

    torch.manual_seed(0)
    network = PaperUNet(NETWORK).eval()
    asked = torch.randn(1, 4, SIDE, SIDE), torch.tensor(3), torch.tensor([[1, 2]])
    with torch.no_grad():
        fused = network(*asked).sample
        _attend_by(network, AttnProcessor())
        whole = network(*asked).sample
    assert torch.allclose(fused, whole, atol=1e-5)
    assert not torch.equal(fused, whole), "another way was taken"


def test_the_ratio_is_of_seconds_an_image():
    """By hand: batches of 8 whose median is 0.3 s an image, evaluations of 3 s of which an image takes 50."""
    paper = PaperTime(FUSED, SIDE, "cpu", 1, (2.0, 4.0))
    found = Comparison(SIDE, "cpu", 1, Solver(), (0.1, 0.2, 0.4, 0.8), (paper,))
    assert found.times_faster(paper) == pytest.approx(150 / 0.3)
    (row,) = found.facts()["paper"]
    assert (row["image_seconds"], row["times_faster"]) == (150, pytest.approx(500))


def test_a_batch_counts_as_its_images(generator, monkeypatch):
    """A clock that moves 4 s with every look at it: a batch of 8 takes that, an image half a second."""
    clock = itertools.count(step=4.0)
    monkeypatch.setattr(comparing, "seconds_now", lambda device: next(clock))
    assert compare(generator, Solver(1), SIDE, NETWORK).shipping_seconds == (0.5,) * 4


def test_both_are_timed_and_named(generator):
    found = compare(generator, Solver(2, 1.5), SIDE, NETWORK)
    assert [one.attention for one in found.paper] == [FUSED, WHOLE_MAP]
    assert len(found.shipping_seconds) == 4
    facts = json.loads(json.dumps(found.facts()))
    assert [(one["device"], one["threads"]) for one in (facts, *facts["paper"])] == [("cpu", 1)] * 3
    assert all(row["image_seconds"] > 0 for row in facts["paper"])


def test_both_are_timed_on_the_cpu_though_there_is_a_gpu(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(comparing, "time_paper", lambda side, *rest: time_paper(SIDE, *rest[:2], NETWORK))
    arguments = ["speed", "--model", stage / "product", "--steps", 1, "--out", tmp_path / "speed.json"]
    arguments = list(map(str, arguments))
    refused = CliRunner().invoke(app, [*arguments, "--gpu"])
    assert refused.exit_code == 2
    assert "no GPU" in " ".join(refused.output.replace("│", " ").split())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "cpu, 1 threads" in done.output
    facts = json.loads((tmp_path / "speed.json").read_text())
    assert {one["device"] for one in (facts, *facts["paper"])} == {"cpu"}
