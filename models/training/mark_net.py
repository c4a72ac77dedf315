"""The network that finds burnt-in marks, and its training on painted screens.

Promises: learns from folds 1 and 2 of BUS-BRA alone, so that folds 3 and 4 can judge it. The pictures already
carry marks that nobody outlined. The first round takes them for tissue, which the painted ones outvote; the
second takes what the first then finds in the plain pictures as marks, and leaves the doubtful pixels out
(self-training, Xie et al. 2020, doi:10.1109/CVPR42600.2020.01070).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from rich.progress import track

from models.training.screen_marks import paint_screen

Grey = npt.NDArray[np.uint8]

FOLDS = (1, 2)
STRIDE = 8  # rows and columns of the input are multiples of it
_CROP = 112
_SURE, _DOUBTFUL = 0.3, 0.03  # probability from which the second round takes a pixel for a mark, or leaves it
_IGNORED = 2


@dataclass(frozen=True)
class MarkSettings:
    """Hyperparameters of both rounds."""

    steps: tuple[int, int] = (300, 600)
    batch_size: int = 12
    learning_rate: float = 3e-3
    painted: int = 900
    seed: int = 1


class MarkNet(torch.nn.Module):
    """Grey (n, 1, rows, columns) in 0..1, sides multiples of 8 -> logits of a mark (n, 1, rows, columns).

    A small U-Net (Ronneberger et al. 2015) that starts and ends with a shuffle of 2 x 2 pixels (Shi et al.
    2016), so that all convolutions run at half resolution and below.
    """

    def __init__(self) -> None:
        super().__init__()
        # 2 x 2 pixels as four channels. As a convolution it is exported for pictures of any size.
        self.register_buffer("unshuffle", torch.eye(4).reshape(4, 1, 2, 2), persistent=False)
        self.first = torch.nn.Sequential(_block(4, 16), _block(16, 16))
        self.second = torch.nn.Sequential(_block(16, 24), _block(24, 24))
        self.third = torch.nn.Sequential(_block(24, 32), _block(32, 32))
        self.up_second = _block(56, 24)
        self.up_first = _block(40, 16)
        self.last = torch.nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """See the class."""
        first = self.first(F.conv2d(picture, self.get_buffer("unshuffle"), stride=2))
        second = self.second(F.max_pool2d(first, 2))
        third = self.third(F.max_pool2d(second, 2))
        up = self.up_second(torch.cat([second, _twice(third)], 1))
        up = self.up_first(torch.cat([first, _twice(up)], 1))
        return F.pixel_shuffle(self.last(up), 2)


class MarkExport(torch.nn.Module):
    """`image` -> `mark_probability`, both (n, 1, rows, columns) in 0..1."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return torch.sigmoid(self.network(image))


def train_marks(pictures: Sequence[Grey], settings: MarkSettings) -> MarkNet:
    """The network, in eval mode, learned from grey pictures, uint8 (rows, columns)."""
    torch.manual_seed(settings.seed)
    network = MarkNet().to(memory_format=torch.channels_last)
    labels = [np.zeros(picture.shape, np.uint8) for picture in pictures]
    for number, steps in enumerate(settings.steps):
        random = np.random.default_rng([settings.seed, number] if number else settings.seed)
        if number:
            labels = [_pseudo_label(network, picture) for picture in track(pictures, "labels")]
        painted = _painted(pictures, labels, settings.painted, random)
        _fit(network, painted, steps, settings, random)
    return network.eval()


def _painted(
    pictures: Sequence[Grey], labels: Sequence[Grey], count: int, random: np.random.Generator
) -> list[tuple[Grey, Grey]]:
    """Pictures of several magnifications with painted marks, and their labels (0, 1, 2: left out)."""
    made = []
    for _ in track(range(count), "painting"):
        index = int(random.integers(len(pictures)))
        rows, columns = pictures[index].shape
        scale = float(np.exp(random.uniform(-0.2, 0.5))) if random.random() < 0.5 else 1.0
        size = (max(_CROP, round(columns * scale)), max(_CROP, round(rows * scale)))
        grey = np.asarray(Image.fromarray(pictures[index]).resize(size, Image.Resampling.BICUBIC))
        label = np.asarray(Image.fromarray(labels[index]).resize(size, Image.Resampling.NEAREST))
        screen = paint_screen(_gain(grey, random), random)
        made.append((screen.grey, np.where(screen.marks, np.uint8(1), label)))
    return made


def _gain(grey: Grey, random: np.random.Generator) -> Grey:
    value = (grey / np.float32(255)) ** np.exp(random.uniform(-0.3, 0.3)) * np.exp(random.uniform(-0.3, 0.2))
    return np.clip(np.rint(value * 255), 0, 255).astype(np.uint8)


def _fit(
    network: MarkNet,
    painted: Sequence[tuple[Grey, Grey]],
    steps: int,
    settings: MarkSettings,
    random: np.random.Generator,
) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    network.train()
    for step in track(range(steps), "training"):
        crops = [
            _crop(painted[index], random) for index in random.integers(len(painted), size=settings.batch_size)
        ]
        grey = torch.from_numpy(np.stack([crop for crop, _ in crops])[:, None]).float() / 255
        label = torch.from_numpy(np.stack([truth for _, truth in crops])[:, None])
        loss = _loss(network(grey.to(memory_format=torch.channels_last)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1} loss {loss.item():.4f}")
    network.eval()


def _crop(screen: tuple[Grey, Grey], random: np.random.Generator) -> tuple[Grey, Grey]:
    grey, label = screen
    y, x = (int(random.integers(0, side - _CROP + 1)) for side in grey.shape)
    cut = np.s_[y : y + _CROP, x : x + _CROP]
    flip = int(random.choice([-1, 1]))
    return np.ascontiguousarray(grey[cut][:, ::flip]), np.ascontiguousarray(label[cut][:, ::flip])


def _loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and Dice over the pixels that are not left out."""
    known = (label != _IGNORED).float()
    truth = (label == 1).float()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, weight=known, reduction="sum") / known.sum()
    probability = logits.sigmoid() * known
    overlap = 2 * (probability * truth).sum() / (probability.sum() + truth.sum() + 1)
    return 4 * entropy + (1 - overlap)


@torch.no_grad()
def _pseudo_label(network: MarkNet, picture: Grey) -> Grey:
    rows, columns = picture.shape
    padded = np.pad(picture, ((0, -rows % STRIDE), (0, -columns % STRIDE)), mode="edge")
    answer = network(torch.from_numpy(padded)[None, None].float() / 255).sigmoid()[0, 0, :rows, :columns]
    label = np.where(answer.numpy() > _DOUBTFUL, np.uint8(_IGNORED), np.uint8(0))
    label[answer.numpy() > _SURE] = 1
    return label


def _block(channels_in: int, channels_out: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(channels_out),
        torch.nn.ReLU(inplace=True),
    )


def _twice(deep: torch.Tensor) -> torch.Tensor:
    return F.interpolate(deep, scale_factor=2.0, mode="nearest")
