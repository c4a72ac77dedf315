"""The published noise predictor: a U-Net of diffusers' blocks, changed where the publication differs.

Promises: 47,768,835 parameters in the published size. diffusers gives the graph, the residual blocks and
the attention (single head; `AttnProcessor2_0`, that is torch's `scaled_dot_product_attention`, which never
holds a whole attention map). Changed here: two projections a residual block, both resampling layers, the
tables of time and condition. Opens no connection and reads no file.

Source: BUSGen, arXiv 2501.06869, and its released layer list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from diffusers.models.resnet import ResnetBlock2D

CLASS_ENTRIES = 3  # nothing said, benign, malignant
DEVICE_ENTRIES = 20  # nothing said, and 19 devices
PARAMETERS = 47_768_835


@dataclass(frozen=True)
class NetworkSettings:
    """Size of the network; the default is the published one."""

    base: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    groups: int = 32
    dropout: float = 0.15
    times: int = 500


class PaperUNet(UNet2DModel):
    """Predicts the noise in a picture, given time, class, device and boxes.

    `forward(sample, timestep, class_labels)`: `sample` (n, 4, s, s), three channels of picture in -1..1 with
    noise and the box map; `timestep` int64 (n,), 0 is almost clean; `class_labels` int64 (n, 2), class and
    device. Answers `.sample` (n, 3, s, s). `s` is a multiple of 2 ** (levels - 1).
    """

    time_embedding: torch.nn.Module

    def __init__(self, settings: NetworkSettings | None = None) -> None:
        chosen = settings or NetworkSettings()
        levels = len(chosen.multipliers)
        super().__init__(
            in_channels=4,
            out_channels=3,
            time_embedding_type="learned",
            down_block_types=("AttnDownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            block_out_channels=tuple(chosen.base * factor for factor in chosen.multipliers),
            layers_per_block=chosen.blocks,
            dropout=chosen.dropout,
            attention_head_dim=None,  # one head, as wide as the level
            norm_num_groups=chosen.groups,
            num_train_timesteps=chosen.times,
        )
        width = chosen.base * 4
        self.time_proj = torch.nn.Embedding.from_pretrained(
            sinusoids(chosen.times, chosen.base), freeze=False
        )
        # diffusers adds the embedding of the condition to that of time; laid side by side first, the two
        # stay apart in the sum and every residual block can project each by itself.
        self.time_embedding = _Beside(self.time_embedding, 0, width)
        self.class_embedding = _Beside(_ConditionEmbedding(chosen.base, width), width, 0)
        for block in [module for module in self.modules() if isinstance(module, ResnetBlock2D)]:
            block.time_emb_proj = _TwoProjections(width, block.out_channels)
        for level in self.down_blocks:
            if level.downsamplers is not None:
                level.downsamplers = torch.nn.ModuleList([_Down(level.resnets[-1].out_channels)])
        for level in self.up_blocks:
            if level.upsamplers is not None:
                level.upsamplers = torch.nn.ModuleList([_Up(level.resnets[-1].out_channels)])


def sinusoids(times: int, width: int) -> torch.Tensor:
    """Table (times, width) of interleaved sine and cosine; wave lengths from 2 pi to 2 pi * 10,000."""
    rate = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angle = torch.arange(times)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class _Beside(torch.nn.Module):
    """The answer of `inner` between zeros: `left` columns before it, `right` after it."""

    def __init__(self, inner: torch.nn.Module, left: int, right: int) -> None:
        super().__init__()
        self.inner, self.left, self.right = inner, left, right

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """See the class; (n, ...) -> (n, left + width + right)."""
        return F.pad(self.inner(value), (self.left, self.right))


class _ConditionEmbedding(torch.nn.Module):
    """Class and device, int64 (n, 2), each looked up, then together through two layers: (n, width).

    Entry 0 of both tables says nothing: a zero vector that is never trained.
    """

    def __init__(self, base: int, width: int) -> None:
        super().__init__()
        self.classes = torch.nn.Embedding(CLASS_ENTRIES, base, padding_idx=0)
        self.devices = torch.nn.Embedding(DEVICE_ENTRIES, base, padding_idx=0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2 * base, width), torch.nn.SiLU(), torch.nn.Linear(width, width)
        )

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.layers(torch.cat([self.classes(labels[:, 0]), self.devices(labels[:, 1])], dim=1))


class _TwoProjections(torch.nn.Module):
    """Time and condition, side by side (n, 2 * width), each projected, then added: (n, channels)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.width = width
        self.time = torch.nn.Linear(width, channels)
        self.condition = torch.nn.Linear(width, channels)

    def forward(self, beside: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.time(beside[:, : self.width]) + self.condition(beside[:, self.width :])


class _Down(torch.nn.Module):
    """Half the side: a 3x3 and a 5x5 convolution of stride 2, summed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = torch.nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.wide = torch.nn.Conv2d(channels, channels, 5, stride=2, padding=2)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """See the class; (n, c, s, s) -> (n, c, s / 2, s / 2)."""
        return self.narrow(hidden) + self.wide(hidden)


class _Up(torch.nn.Module):
    """Twice the side: a transposed 5x5 convolution of stride 2, then a 3x3 one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spread = torch.nn.ConvTranspose2d(channels, channels, 5, stride=2, padding=2, output_padding=1)
        self.smooth = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: torch.Tensor, output_size: int | None = None) -> torch.Tensor:
        """See the class; (n, c, s, s) -> (n, c, 2 s, 2 s). `output_size` is diffusers', always None here."""
        return self.smooth(self.spread(hidden))
