"""The autoencoder: a picture into a small latent; a decoder that is given noise to draw speckle from.

Promises: the decoder knows the lesion's mask at full resolution, so that outlines are pixel-true, and is
given noise at every scale: the same latent, mask and noise make the same picture. How much of the speckle
comes of that noise is learnt, and measured by `study/speckle_compare.py`. Normalisation of groups, not
batches: one picture decodes as it does among others.

Sources: variational autoencoder with a patch critic, Esser et al. 2021 (arXiv:2012.09841); noise injection,
Karras et al. 2019 (arXiv:1812.04948); critic of patches, Isola et al. 2017 (arXiv:1611.07004), under spectral
normalisation, Miyato et al. 2018 (arXiv:1802.05957).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

SCALE = 8  # px of the picture per px of the latent
_CENTRE, _SPREAD = 0.25, 0.2  # of BUS-BRA's grey levels, about


@dataclass(frozen=True)
class AutoencoderSettings:
    """Shape of the networks. `widths`: channels at strides 2, 4 and 8."""

    widths: tuple[int, int, int] = (32, 64, 128)
    latent_channels: int = 4
    full_width: int = 12  # channels at full resolution


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.second = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.second(self.first(features))


class Encoder(nn.Module):
    """Grey (n, 1, s, s) in 0..1 and mask (n, 1, s, s) -> mean and log variance, each (n, c, s/8, s/8)."""

    def __init__(self, settings: AutoencoderSettings) -> None:
        super().__init__()
        fine, middle, coarse = settings.widths
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(8, fine, 3, padding=1),
            _Residual(fine),
            nn.Conv2d(fine, middle, 3, stride=2, padding=1),
            _Residual(middle),
            nn.Conv2d(middle, coarse, 3, stride=2, padding=1),
            _Residual(coarse),
            _Residual(coarse),
            nn.GroupNorm(8, coarse),
            nn.SiLU(),
            nn.Conv2d(coarse, 2 * settings.latent_channels, 3, padding=1),
        )

    def forward(self, grey: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        mean, log_variance = self.layers(torch.cat([(grey - _CENTRE) / _SPREAD, mask], dim=1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-12, 4)


class _Speckled(nn.Module):
    """A residual block whose input is disturbed by noise, each channel by a learnt amount."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.full((1, width, 1, 1), 0.1))
        self.block = _Residual(width)

    def forward(self, features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return self.block(features + self.amount * noise)


class Decoder(nn.Module):
    """Latent (n, c, s/8, s/8), mask (n, 1, s, s) and noise -> grey (n, 1, s, s), about 0..1.

    Noise: four maps (n, 1, ., .) of sides s/8, s/4, s/2 and s (`noise_sides`).
    """

    def __init__(self, settings: AutoencoderSettings) -> None:
        super().__init__()
        fine, middle, coarse = settings.widths
        self.inputs = nn.ModuleList(
            [
                nn.Conv2d(settings.latent_channels + 1, coarse, 3, padding=1),
                nn.Conv2d(coarse + 1, middle, 3, padding=1),
                nn.Conv2d(middle + 1, fine, 3, padding=1),
            ]
        )
        self.speckled = nn.ModuleList([_Speckled(coarse), _Speckled(middle), _Speckled(fine)])
        self.plain = nn.ModuleList([_Residual(coarse), _Residual(middle), _Residual(fine)])
        self.expand = nn.Conv2d(fine, settings.full_width, 3, padding=1)
        self.amount = nn.Parameter(torch.full((1, settings.full_width, 1, 1), 0.1))
        self.mixed = nn.Conv2d(settings.full_width + 1, settings.full_width, 3, padding=1)
        self.last = nn.Conv2d(settings.full_width, 1, 3, padding=1)

    def forward(
        self, latent: torch.Tensor, mask: torch.Tensor, noise: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """See the class."""
        features = latent
        for level, (inputs, speckled, plain) in enumerate(
            zip(self.inputs, self.speckled, self.plain, strict=True)
        ):
            if level:
                features = F.interpolate(features, scale_factor=2.0)
            pooled = F.avg_pool2d(mask, SCALE >> level)
            features = plain(speckled(inputs(torch.cat([features, pooled], dim=1)), noise[level]))
        full = F.silu(self.expand(F.interpolate(F.silu(features), scale_factor=2.0)))
        full = F.silu(self.mixed(torch.cat([full + self.amount * noise[-1], mask], dim=1)))
        return self.last(full) * _SPREAD + _CENTRE


def noise_sides(side: int) -> tuple[int, int, int, int]:
    """Sides of the decoder's four noise maps for pictures of `side` px."""
    return side // 8, side // 4, side // 2, side


def draw_noise(
    count: int, side: int, device: torch.device, generator: torch.Generator | None = None
) -> list[torch.Tensor]:
    """Noise for `count` pictures, drawn on the CPU so that it is the same on every device."""
    return [torch.randn(count, 1, s, s, generator=generator).to(device) for s in noise_sides(side)]


class Autoencoder(nn.Module):
    """Encoder and decoder, and the scale that brings latents to unit variance (`latent_scale`, a buffer)."""

    latent_scale: torch.Tensor

    def __init__(self, settings: AutoencoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder, self.decoder = Encoder(settings), Decoder(settings)
        self.register_buffer("latent_scale", torch.ones(1, settings.latent_channels, 1, 1))
        self.register_buffer("latent_mean", torch.zeros(1, settings.latent_channels, 1, 1))


class Critic(nn.Module):
    """Judges patches of 30 px of a picture with its mask: real above, drawn below zero."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        # Bounds how fast verdicts change with the picture (Miyato et al. 2018, arXiv:1802.05957)
        normal = nn.utils.parametrizations.spectral_norm
        self.layers = nn.Sequential(
            normal(nn.Conv2d(2, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            normal(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            normal(nn.Conv2d(2 * width, 4 * width, 3, padding=1)),
            nn.LeakyReLU(0.2),
            normal(nn.Conv2d(4 * width, 1, 1)),
        )

    def forward(self, grey: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 1, s, s) in 0..1 -> verdicts (n, 1, s/4, s/4)."""
        return self.layers(torch.cat([(grey - _CENTRE) / _SPREAD, mask], dim=1))
