"""The comparison of speed: what is run, how it is scaled, what it says."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.generation.flow import Solver  # noqa: E402
from models.generation.paper import compare as comparing  # noqa: E402
from models.generation.paper.cli import app  # noqa: E402
from models.generation.paper.compare import compare  # noqa: E402
from models.generation.paper.network import PaperUNet  # noqa: E402
from models.generation.paper.speed import FUSED, WHOLE_MAP, time_paper  # noqa: E402
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


def test_the_ratio_is_of_seconds_an_image(generator):
    found = compare(generator, Solver(2, 1.5), SIDE, NETWORK)
    assert [one.attention for one in found.paper] == [FUSED, WHOLE_MAP]
    assert len(found.shipping_seconds) == 4
    facts = json.loads(json.dumps(found.facts()))
    assert [(one["device"], one["threads"]) for one in (facts, *facts["paper"])] == [("cpu", 1)] * 3
    for one, row in zip(found.paper, facts["paper"], strict=True):
        assert row["times_faster"] == pytest.approx(one.image_seconds / facts["image_seconds"])
        assert row["image_seconds"] > 0


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
