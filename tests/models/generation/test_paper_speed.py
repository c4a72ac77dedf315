"""The comparison of speed: what is run, how it is scaled, what it says."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from models.generation.flow import Solver  # noqa: E402
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
    found = time_paper(SIDE, FUSED, NETWORK)
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
    for one, row in zip(found.paper, facts["paper"], strict=True):
        assert row["times_faster"] == pytest.approx(one.image_seconds / facts["image_seconds"])
        assert row["image_seconds"] > 0
