"""The flow: from noise to latents along straight paths, asked for by mask, class, device, BI-RADS, histology.

Promises: "unknown" and "no lesion" are different embeddings; everything asked for can be unknown on its
own; the mask enters at full resolution. Guidance is in the usual scale: u + s (c - u), 1 is none.

Sources: rectified flow, Liu et al. 2023 (arXiv:2209.03003); classifier-free guidance, Ho & Salimans 2022
(arXiv:2207.12598), within an interval of times, Kynkaanniemi et al. 2024 (arXiv:2404.07724).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import nn

from models.data.record import DataError
from models.generation.autoencoder import SCALE
from models.generation.conditions import MOST_GUIDANCE, MOST_STEPS, VOCABULARIES

_MASK_CHANNELS = 16
_TIMES = 1000.0  # diffusers' embedding expects times of this range


@dataclass(frozen=True)
class FlowSettings:
    """Shape of the network. Attention works on the coarsest level alone."""

    latent_channels: int = 4
    widths: tuple[int, ...] = (96, 192)
    blocks: int = 1
    dropout: float = 0.1
    head_width: int = 32
    groups: int = 32


@dataclass(frozen=True)
class Request:
    """What `n` images are asked for; rows whose `known` is 0 are left to the network.

    mask : float (n, 1, s, s), 0 or 1, all lesions of an image
    marks : float (n, 1, s/8, s/8), share of pixels where marks were suppressed
    labels : int64 (n, 4), indices in the order of `conditions.VOCABULARIES`; 0 is unknown
    zoom : float (n,), side of the frame as a share of the picture's shorter side
    known : float (n, 3), 1 where mask, marks and zoom are asked for
    """

    mask: torch.Tensor
    marks: torch.Tensor
    labels: torch.Tensor
    zoom: torch.Tensor
    known: torch.Tensor

    def parts(self) -> tuple[torch.Tensor, ...]:
        """The tensors in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def to(self, device: torch.device) -> Request:
        """The same on `device`."""
        return Request(*(part.to(device) for part in self.parts()))

    def unknown(self) -> Request:
        """The same number of images with nothing asked for."""
        return Request(self.mask, self.marks, torch.zeros_like(self.labels), self.zoom, self.known * 0)


def joined(requests: Sequence[Request]) -> Request:
    """Requests one after another."""
    return Request(*(torch.cat(parts) for parts in zip(*(r.parts() for r in requests), strict=True)))


class FlowNet(nn.Module):
    """Velocity (n, c, s/8, s/8) at latents of that shape, times (n,) in 0..1 (1 is noise) and a request."""

    def __init__(self, settings: FlowSettings) -> None:
        super().__init__()
        self.settings = settings
        width = 4 * settings.widths[0]
        self.fields = nn.ModuleList(nn.Embedding(len(words), width) for words in VOCABULARIES.values())
        self.zoom = nn.Linear(2, width)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width))
        self.outline = nn.Sequential(
            nn.Conv2d(SCALE * SCALE, _MASK_CHANNELS, 1),
            nn.SiLU(),
            nn.Conv2d(_MASK_CHANNELS, _MASK_CHANNELS, 3, padding=1),
        )
        last = len(settings.widths) - 1
        kinds = ["AttnDownBlock2D" if level == last else "DownBlock2D" for level in range(last + 1)]
        self.unet = UNet2DModel(
            in_channels=settings.latent_channels + _MASK_CHANNELS + 3,
            out_channels=settings.latent_channels,
            block_out_channels=settings.widths,
            layers_per_block=settings.blocks,
            down_block_types=tuple(kinds),
            up_block_types=tuple(kind.replace("Down", "Up") for kind in reversed(kinds)),
            attention_head_dim=settings.head_width,
            norm_num_groups=settings.groups,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
            dropout=settings.dropout,
        )

    def forward(self, latent: torch.Tensor, time: torch.Tensor, request: Request) -> torch.Tensor:
        """See the class."""
        with_mask, with_marks, with_zoom = (request.known[:, i] for i in range(3))
        zoom = torch.stack([(request.zoom - 0.8) * 4 * with_zoom, with_zoom], dim=1)
        asked = self.zoom(zoom)
        for index, table in enumerate(self.fields):
            asked = asked + table(request.labels[:, index])
        ones = torch.ones_like(latent[:, :1])
        maps = [
            self.outline(F.pixel_unshuffle(request.mask, SCALE)) * with_mask[:, None, None, None],
            ones * with_mask[:, None, None, None],
            request.marks * with_marks[:, None, None, None],
            ones * with_marks[:, None, None, None],
        ]
        inputs = torch.cat([latent, *maps], dim=1).contiguous(memory_format=torch.channels_last)
        velocity: torch.Tensor = self.unet(inputs, time * _TIMES, class_labels=self.mix(asked)).sample
        return velocity


def drop_out(request: Request, everything: float, one: float, marks: float) -> Request:
    """Make each image's request unknown, for training.

    With probability `everything` all of it; each label, the mask and the zoom on its own with probability
    `one`, the map of marks with probability `marks`. Drawn per image.
    """
    count = len(request.labels)
    all_known = (torch.rand(count, 1) >= everything).float()
    labels = request.labels * (torch.rand(request.labels.shape) >= one) * all_known.long()
    chance = torch.tensor([one, marks, one])
    known = request.known * (torch.rand(count, 3) >= chance).float() * all_known
    return Request(request.mask, request.marks, labels, request.zoom, known)


@dataclass(frozen=True)
class Solver:
    """How latents are drawn: `steps` of Euler's method, guided by `guidance` within `interval`.

    Times run from 1 (noise) to 0; guidance costs a second evaluation where it is on.

    Raises
    ------
    DataError
        A value is no number, or out of range.
    """

    steps: int = 12
    guidance: float = 1.5
    interval: tuple[float, float] = (0.1, 0.9)

    def __post_init__(self) -> None:
        """Refuse what no solver can be: NaN passes every check of a range but this one."""
        if not (isinstance(self.steps, int) and 1 <= self.steps <= MOST_STEPS):
            raise DataError(f"{self.steps!r} steps of the solver: give a whole number from 1 to {MOST_STEPS}")
        if not (isinstance(self.guidance, int | float) and 0 <= self.guidance <= MOST_GUIDANCE):
            raise DataError(f"guidance {self.guidance!r}: give a number from 0 to {MOST_GUIDANCE:g}")
        first, last = self.interval
        if not 0 <= first <= last <= 1:
            raise DataError(f"guidance within times {first!r} to {last!r}: give times from 0 to 1, in order")


@torch.no_grad()
def solve(network: FlowNet, noise: torch.Tensor, request: Request, solver: Solver) -> torch.Tensor:
    """Latents of unit variance from noise of the same shape; deterministic."""
    both = joined([request, request.unknown()])

    def velocity(latent: torch.Tensor, time: float) -> torch.Tensor:
        times = torch.full((len(latent),), time, device=latent.device)
        if solver.guidance == 1 or not solver.interval[0] <= time <= solver.interval[1]:
            return network(latent, times, request)
        asked, free = network(latent.repeat(2, 1, 1, 1), times.repeat(2), both).chunk(2)
        return free + solver.guidance * (asked - free)

    latent = noise
    grid = torch.linspace(1, 0, solver.steps + 1).tolist()
    for now, then in pairwise(grid):
        latent = latent + (then - now) * velocity(latent, now)
    return latent
