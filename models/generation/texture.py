"""Losses that ask for the right texture, not for the right pixel.

Promises: two pictures with the same anatomy and the same local statistics are near each other, wherever
their speckle lies. Features are EfficientNet-Lite0's (ImageNet); it is frozen.

Sources: Gram matrices, Gatys et al. 2015 (arXiv:1505.07376); here over cells of the picture, so that
texture stays where it belongs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from models.training.encoder import TAPS
from models.training.encoder import Encoder as ImageNetEncoder
from models.training.parallel import mean_over_processes

_CELLS = 4  # a side
_WINDOW = 8  # px over which local mean and spread are taken


class Features(nn.Module):
    """The first three taps of the frozen encoder, at strides 2, 4 and 8."""

    def __init__(self) -> None:
        super().__init__()
        full = ImageNetEncoder().eval()
        self.stem, self.norm, self.activation = full.stem, full.norm, full.activation
        self.blocks = full.blocks[: TAPS[2] + 1]
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Features:
        """It stays as it is."""
        return super().train(False)

    def forward(self, grey: torch.Tensor) -> list[torch.Tensor]:
        """Grey (n, 1, s, s) in 0..1 -> three maps of 16, 24 and 40 channels."""
        features = self.activation(self.norm(self.stem((grey - 0.449) / 0.226)))
        taps = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in TAPS[:3]:
                taps.append(features)
        return taps


def grams(features: torch.Tensor) -> torch.Tensor:
    """Channel products averaged over each of 4 x 4 cells: (n, 16, c, c)."""
    count, channels, side, _ = features.shape
    cell = side // _CELLS
    parts = features.float().reshape(count, channels, _CELLS, cell, _CELLS, cell)
    parts = parts.permute(0, 2, 4, 1, 3, 5).reshape(count, _CELLS**2, channels, cell * cell)
    return parts @ parts.transpose(2, 3) / (cell * cell)


def local_spread(grey: torch.Tensor) -> torch.Tensor:
    """Standard deviation within overlapping windows of 8 px: (n, 1, s/4 - 1, s/4 - 1)."""
    grey = grey.float()
    mean = F.avg_pool2d(grey, _WINDOW, stride=_WINDOW // 2)
    square = F.avg_pool2d(grey * grey, _WINDOW, stride=_WINDOW // 2)
    return (square - mean * mean).clamp(min=0).add(1e-5).sqrt()


@dataclass(frozen=True)
class TextureWeights:
    """What each part of `texture_loss` counts."""

    anatomy: float = 4.0
    spread: float = 2.0
    style: float = 1.0
    content: float = 0.5


def texture_loss(
    features: Features, drawn: torch.Tensor, real: torch.Tensor, weights: TextureWeights
) -> torch.Tensor:
    """How far pictures (n, 1, s, s) are from real ones in anatomy and local statistics; a scalar.

    Anatomy is compared after averaging over 4 px (and, for half as much, 2 px): finer grain is texture.
    """
    drawn, real = drawn.float(), real.float()
    anatomy = sum(F.l1_loss(F.avg_pool2d(drawn, k), F.avg_pool2d(real, k)) * k / 4 for k in (2, 4))
    spread = sum(
        F.l1_loss(local_spread(F.avg_pool2d(drawn, k)), local_spread(F.avg_pool2d(real, k))) for k in (1, 2)
    )
    own = features(drawn)
    with torch.no_grad():
        target = features(real)
    style = sum(_relative(grams(a), grams(b)) for a, b in zip(own[:2], target[:2], strict=True))
    content = _relative(own[2].float(), target[2].float())
    total: torch.Tensor = (
        weights.anatomy * anatomy
        + weights.spread * spread
        + weights.style * style / 2
        + weights.content * content
    )
    return total


def _relative(drawn: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    usual = mean_over_processes(real.abs().mean())  # of the whole batch, however many share it
    return F.l1_loss(drawn, real) / usual.clamp(min=1e-3)
