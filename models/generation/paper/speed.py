"""How long the published configuration takes for an image on this machine: measured in part, scaled.

Promises: the full network, guidance and solver run for two evaluations of the solver, four of the network,
after one that is not counted; every evaluation costs the same, so the time is scaled to the 50 that an
image takes. Weights do not change the time: they are not trained. The attention is named, for it decides,
and so is the device; a GPU is waited for before the clock is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

from models.generation.paper.data import BENIGN
from models.generation.paper.diffusion import EVALUATIONS, GUIDANCE_W, solve
from models.generation.paper.network import NetworkSettings, PaperUNet
from models.generation.paper.sample import predictor
from models.training.device import device_name, seconds_now

FUSED = "scaled_dot_product_attention, no whole map"
WHOLE_MAP = "whole attention map, as released"
TIMED = 2


@dataclass(frozen=True)
class PaperTime:
    """Seconds of each timed evaluation of the solver (two evaluations of the network each)."""

    attention: str
    side: int
    device: str
    threads: int
    evaluation_seconds: tuple[float, ...]

    @property
    def image_seconds(self) -> float:
        """Seconds an image would take: the median evaluation times 50."""
        return median(self.evaluation_seconds) * EVALUATIONS


def time_paper(
    side: int, device: torch.device, attention: str = FUSED, settings: NetworkSettings | None = None
) -> PaperTime:
    """Time the configuration for one image of `side` pixels, one image at a time as released."""
    torch.set_flush_denormal(True)
    network = PaperUNet(settings).eval().to(device)
    if attention == WHOLE_MAP:
        _attend_by(network, AttnProcessor())
    ask = predictor(network, torch.zeros(1, 1, side, side), torch.tensor([[BENIGN, 1]]), GUIDANCE_W)
    seconds: list[float] = []

    def timed(noisy: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
        begun = seconds_now(device)
        answer = ask(noisy, now)
        seconds.append(seconds_now(device) - begun)
        return answer

    solve(timed, torch.randn(1, 3, side, side).to(device), only=1 + TIMED)
    return PaperTime(attention, side, device_name(device), torch.get_num_threads(), tuple(seconds[1:]))


def _attend_by(network: PaperUNet, processor: AttnProcessor | AttnProcessor2_0) -> None:
    for module in network.modules():
        if isinstance(module, Attention):
            module.set_processor(processor)
