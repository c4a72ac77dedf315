"""Networks on another device than their pictures: "meta" refuses to mix with the CPU, as CUDA does."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from models.diagnosis.network import DiagnosisNet  # noqa: E402
from models.diagnosis.train import logits_of  # noqa: E402
from models.generation.kid import Embedder  # noqa: E402
from models.generation.paper.network import PaperUNet  # noqa: E402
from models.generation.paper.sample import predictor  # noqa: E402
from models.generation.study.fidelity import _outline_features  # noqa: E402
from models.segmentation.network import LesionNet  # noqa: E402
from models.segmentation.train import Squares, dice_of  # noqa: E402
from tests.models.generation.small import NETWORK, SIDE  # noqa: E402

ELSEWHERE = torch.device("meta")


def answering(network):
    """`network` on another device, whose answers can be brought back: "meta" holds no numbers, so zeros."""

    def brought_back(module, given, answer):
        return tuple(map(zeros, answer)) if isinstance(answer, tuple) else zeros(answer)

    network.to(ELSEWHERE).eval().register_forward_hook(brought_back)
    return network


def zeros(answer):
    assert answer.device == ELSEWHERE
    return torch.zeros(answer.shape)


def test_a_network_elsewhere_refuses_pictures_from_here():
    with pytest.raises(RuntimeError, match="device"), torch.no_grad():
        answering(DiagnosisNet(pretrained=False))(torch.zeros(1, 2, 160, 160))


def test_features_are_taken_where_the_network_lies():
    features = Embedder(ELSEWHERE)(torch.zeros(3, 1, 64, 64))
    assert (features.shape, features.device) == ((3, 1280), ELSEWHERE)


def test_lesions_are_judged_where_the_network_lies():
    crops = np.zeros((3, 2, 256, 256), np.uint8)
    assert logits_of(answering(DiagnosisNet(pretrained=False)), crops).shape == (3,)


def test_outlines_are_drawn_where_the_network_lies():
    squares = Squares(np.zeros((3, 160, 160), np.uint8), np.zeros((3, 160, 160), np.uint8))
    network = answering(LesionNet(pretrained=False))
    assert dice_of(network, squares).tolist() == [1, 1, 1]
    assert _outline_features(network, squares).shape[0] == 3


def test_the_published_network_is_asked_where_it_lies():
    network = PaperUNet(NETWORK).to(ELSEWHERE).eval()
    ask = predictor(network, torch.zeros(1, 1, SIDE, SIDE), torch.tensor([[1, 2]]), 1.8)
    with torch.no_grad():
        answer = ask(torch.zeros(1, 3, SIDE, SIDE), torch.tensor(3))
    assert (answer.shape, answer.device) == ((1, 3, SIDE, SIDE), ELSEWHERE)
