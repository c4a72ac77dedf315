"""Augmentation of whole batches: geometry, gain, blur, noise, painted marks.

Promises: pictures and masks move together; values stay in 0..1. All randomness comes from torch's seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class AugmentSettings:
    """Ranges of the random changes. `zoom` multiplies the field of view; shifts are shares of the side."""

    zoom: tuple[float, float] = (0.8, 1.25)
    aspect: float = 0.1
    rotate_degrees: float = 8.0
    shift: float = 0.1
    gamma: float = 0.4
    gain: float = 0.25
    offset: float = 0.08
    blur_share: float = 0.2
    noise_share: float = 0.3
    marks_share: float = 0.5
    drop_share: float = 0.0


def sample_grid(count: int, side: int, settings: AugmentSettings, base_zoom: float = 1.0) -> torch.Tensor:
    """Random affine sampling grid, (count, side, side, 2), with horizontal flips."""
    zoom = (
        torch.empty(count).uniform_(math.log(settings.zoom[0]), math.log(settings.zoom[1])).exp() * base_zoom
    )
    aspect = torch.empty(count).uniform_(-settings.aspect, settings.aspect).exp()
    angle = torch.empty(count).uniform_(-1, 1) * math.radians(settings.rotate_degrees)
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = zoom * aspect * cos * flip, -zoom * sin
    theta[:, 1, 0], theta[:, 1, 1] = zoom * sin * flip, zoom / aspect * cos
    theta[:, :, 2] = torch.empty(count, 2).uniform_(-1, 1) * settings.shift * 2 * base_zoom
    return F.affine_grid(theta, [count, 1, side, side], align_corners=False)


def change_grey(grey: torch.Tensor, marks: torch.Tensor, settings: AugmentSettings) -> torch.Tensor:
    """Gain, gamma, offset, blur, speckle-like noise and painted marks on float (n, 1, h, w) in 0..1."""
    count = grey.shape[0]

    def spread(width: float) -> torch.Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(-width, width)

    empty = grey <= 0  # padding stays black
    grey = grey.clamp(min=1e-4) ** spread(settings.gamma).exp()
    grey = grey * spread(settings.gain).exp() + spread(settings.offset)
    chosen = torch.rand(count) < settings.blur_share
    if chosen.any():
        grey = torch.where(chosen[:, None, None, None], F.avg_pool2d(grey, 3, 1, 1), grey)
    chosen = torch.rand(count) < settings.noise_share
    if chosen.any():
        noise = F.avg_pool2d(torch.randn_like(grey), 3, 1, 1) * torch.empty(count, 1, 1, 1).uniform_(0, 0.4)
        grey = torch.where(chosen[:, None, None, None], grey * (1 + noise), grey)
    grey = torch.where(empty, torch.zeros_like(grey), grey).clamp(0, 1)
    chosen = torch.rand(count) < settings.marks_share
    if chosen.any():
        painted = marks[torch.randint(len(marks), (count,))].unsqueeze(1).float() / 255
        grey = torch.where(chosen[:, None, None, None], torch.maximum(grey, painted), grey)
    return grey
