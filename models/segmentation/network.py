"""A U-Net on EfficientNet-Lite0: the whole frame in, a map of lesion probability out.

Source: Ronneberger et al. 2015 (doi:10.1007/978-3-319-24574-4_28); encoder as in models.training.encoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from models.training.encoder import TAP_CHANNELS, Encoder

_DECODER_CHANNELS = (24, 32, 64, 128)  # finest first


class LesionNet(torch.nn.Module):
    """Grey square (n, 1, s, s) in 0..1 -> logits (n, 1, s, s) and pooled deep features (n, 432)."""

    def __init__(self, *, pretrained: bool = True) -> None:
        super().__init__()
        self.encoder = Encoder(pretrained=pretrained)
        del self.encoder.head, self.encoder.head_norm  # ImageNet's head has no part here
        inputs = (*_DECODER_CHANNELS[1:], TAP_CHANNELS[-1])
        self.up = torch.nn.ModuleList(
            _block(deep + skip, out)
            for deep, skip, out in zip(inputs, TAP_CHANNELS[:-1], _DECODER_CHANNELS, strict=True)
        )
        self.dropout = torch.nn.Dropout2d(0.1)
        self.last = torch.nn.Conv2d(_DECODER_CHANNELS[0], 1, 3, padding=1)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        *skips, deepest = self.encoder(picture)
        features = torch.cat([skips[-1].mean(dim=(2, 3)), deepest.mean(dim=(2, 3))], dim=1)
        deep = self.dropout(deepest)
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            deep = F.interpolate(deep, scale_factor=2.0, mode="bilinear", align_corners=False)
            deep = block(torch.cat([deep, skip], dim=1))
        logits = self.last(deep)
        return F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False), features


def _block(channels_in: int, channels_out: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(channels_out),
        torch.nn.ReLU6(inplace=True),
    )
