"""The published network: its size, its layers, what a condition reaches, and that nothing is fetched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from models.generation.paper.network import PARAMETERS, PaperUNet, sinusoids  # noqa: E402
from models.generation.paper.train import CLIP_NORM, DEFAULTS, loss, warm_then_cosine  # noqa: E402
from tests.models.generation.small import NETWORK, SIDE  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
WITHOUT_NETWORK = """
import socket, sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise PermissionError(f"{event} {arguments[:2]}")
sys.addaudithook(refuse)
try:
    socket.getaddrinfo("localhost", 80)
    sys.exit("the hook does not refuse")
except PermissionError:
    pass
import torch
from models.generation.paper.network import NetworkSettings, PaperUNet
from models.generation.paper.sample import Asked, sample
network = PaperUNet(NetworkSettings(base=16, multipliers=(1, 2), blocks=1, groups=8)).eval()
print(sample(network, [Asked(1, 1, torch.zeros(0, 4))], 16, seed=1, evaluations=2).shape)
"""


def count(module) -> int:
    return sum(values.numel() for values in module.parameters())


def conv(inputs: int, outputs: int, side: int) -> int:
    return inputs * outputs * side**2 + outputs


def block(inputs: int, outputs: int, attention: bool) -> int:
    """Parameters of a residual block by the published layer list."""
    size = 2 * inputs + conv(inputs, outputs, 3) + 2 * conv(512, outputs, 1)
    size += 2 * outputs + conv(outputs, outputs, 3)
    size += conv(inputs, outputs, 1) if inputs != outputs else 0
    return size + (2 * outputs + 4 * conv(outputs, outputs, 1) if attention else 0)


@pytest.fixture(scope="module")
def full():
    torch.manual_seed(0)
    return PaperUNet()


def test_the_published_number_of_parameters(full):
    assert count(full) == PARAMETERS == 47_768_835
    trained = sum(values.numel() for values in full.parameters() if values.requires_grad)
    assert trained == PARAMETERS


def test_every_part_has_the_size_of_the_published_layer_list(full):
    assert count(full.time_proj) == 500 * 128
    assert count(full.time_embedding) == conv(128, 512, 1) + conv(512, 512, 1)
    assert count(full.class_embedding) == (3 + 20) * 128 + conv(256, 512, 1) + conv(512, 512, 1)
    assert count(full.conv_in) == conv(4, 128, 3)
    resample = conv(256, 256, 3) + conv(256, 256, 5)
    assert [count(level) for level in full.down_blocks] == [
        2 * block(128, 128, True) + conv(128, 128, 3) + conv(128, 128, 5),
        block(128, 256, True) + block(256, 256, True) + resample,
        2 * block(256, 256, True) + resample,
        2 * block(256, 256, True),
    ]
    assert count(full.mid_block) == block(256, 256, True) + block(256, 256, False)
    assert [count(level) for level in full.up_blocks] == [
        3 * block(512, 256, False) + resample,
        3 * block(512, 256, False) + resample,
        2 * block(512, 256, False) + block(384, 256, False) + resample,
        block(384, 128, False) + 2 * block(256, 128, False),
    ]
    assert count(full.conv_norm_out) + count(full.conv_out) == 2 * 128 + conv(128, 3, 3)


def test_attention_of_one_head_in_the_encoder_and_the_middle_alone(full):
    places = [name for name, module in full.named_modules() if type(module).__name__ == "Attention"]
    expected = [f"down_blocks.{level}.attentions.{block}" for level in range(4) for block in range(2)]
    assert places == [*expected, "mid_block.attentions.0"]
    for place in places:
        attention = full.get_submodule(place)
        assert attention.heads == 1
        assert type(attention.processor).__name__ == "AttnProcessor2_0"


def test_a_full_step_reaches_every_weight(full):
    optimizer = warm_then_cosine(full, DEFAULTS, 1).optimizer
    before = full.conv_in.weight.detach().clone()
    random = torch.Generator().manual_seed(1)
    batch = (
        torch.rand(1, 3, 32, 32, generator=random) * 2 - 1,
        torch.ones(1, 1, 32, 32),
        torch.tensor([[2, 7]]),
        torch.tensor([250]),
        torch.randn(1, 3, 32, 32, generator=random),
    )
    value = loss(full, batch, 1)
    value.backward()
    assert 500 < value.item() < 50_000  # a sum over 3,072 numbers, not a mean
    untouched = [name for name, values in full.named_parameters() if not values.grad.any()]
    assert [name for name in untouched if not name.endswith("to_k.bias")] == []  # attention ignores that
    torch.nn.utils.clip_grad_norm_(full.parameters(), CLIP_NORM)
    optimizer.step()
    assert not torch.equal(full.conv_in.weight, before)
    assert not full.class_embedding.inner.classes.weight[0].any(), "what says nothing stays zero"
    assert not full.class_embedding.inner.devices.weight[0].any()
    full.zero_grad(set_to_none=True)


@pytest.mark.parametrize("changed", ["box", "class", "device", "time"])
def test_each_condition_changes_the_answer(changed):
    torch.manual_seed(0)
    network = PaperUNet(NETWORK).eval()
    noisy, drawn = torch.randn(1, 3, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE)
    labels, time = torch.tensor([[1, 3]]), torch.tensor([10])
    with torch.no_grad():
        before = network(torch.cat([noisy, drawn], 1), time, labels).sample
        if changed == "box":
            drawn[:, :, 4:8, 4:8] = 1
        labels = {"class": torch.tensor([[2, 3]]), "device": torch.tensor([[1, 4]])}.get(changed, labels)
        time = torch.tensor([11]) if changed == "time" else time
        after = network(torch.cat([noisy, drawn], 1), time, labels).sample
    assert before.shape == noisy.shape
    assert not torch.allclose(before, after, atol=1e-6)


def test_time_and_condition_are_projected_apart():
    network = PaperUNet(NETWORK)
    project = network.mid_block.resnets[0].time_emb_proj
    time, condition = torch.randn(2, 64), torch.randn(2, 64)
    expected = project.time(time) + project.condition(condition)
    assert torch.allclose(project(torch.cat([time, condition], 1)), expected)
    beside = network.time_embedding(torch.randn(2, 16)) + network.class_embedding(torch.tensor([[1, 2]] * 2))
    assert beside.shape == (2, 128)
    assert torch.equal(beside[:, 64:], network.class_embedding(torch.tensor([[1, 2]] * 2))[:, 64:])


def test_the_table_of_times_starts_as_sinusoids():
    start = PaperUNet(NETWORK).time_proj.weight
    assert torch.equal(start, sinusoids(500, 16))
    assert start.requires_grad
    table = sinusoids(500, 128)
    assert torch.allclose(table[7, 0], torch.tensor(7.0).sin())
    assert torch.allclose(table[7, 1], torch.tensor(7.0).cos())
    assert torch.allclose(table[:, 0::2] ** 2 + table[:, 1::2] ** 2, torch.ones(500, 64), atol=1e-5)


def test_import_and_sampling_open_no_connection():
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "torch.Size([1, 3, 16, 16])" in result.stdout
