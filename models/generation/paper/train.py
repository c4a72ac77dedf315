"""Training of the published network on BUS-BRA, as published.

Promises: folds given by the caller only; benign and malignant pictures in equal numbers every epoch; the
condition (boxes, class and device together) is left out of one batch in ten; no average of the weights.
Everything drawn for a batch comes from (seed, epoch), whatever the number of ranks. Resumes after a kill.

Source: BUSGen, arXiv 2501.06869, and its released training code and configuration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

from models.data.record import DataError, Record, data_hash
from models.data.whole import whole_file
from models.generation.paper.data import BENIGN, MALIGNANT, Picture, changed, device_entries, read_picture
from models.generation.paper.diffusion import TIMES, add_noise
from models.generation.paper.network import NetworkSettings, PaperUNet
from models.generation.paper.run import BOXES, WEIGHTS
from models.training.device import best_device
from models.training.loop import Batch, Fitted, LoopSettings, Steering, Task, fit
from models.training.parallel import own_rows, rank
from models.training.run import begin_run, write_arrays

SIDE = 160
DEFAULTS = LoopSettings(
    epochs=70,
    batch_size=1,
    learning_rate=6.25e-6,
    weight_decay=1e-4,
    ema_decay=0.0,
    warmup_share=0.1,
    seed=1,
)
CLIP_NORM = 1.0
_PEAK = 2.5  # by which the learning rate grows while it warms up
CONDITION_LEFT_OUT = 0.1


@dataclass(frozen=True)
class PaperSettings:
    """What makes a run of the published configuration; the defaults are the published ones."""

    loop: LoopSettings = DEFAULTS
    network: NetworkSettings = field(default_factory=NetworkSettings)
    side: int = SIDE


def train(records: Sequence[Record], out: Path, settings: PaperSettings | None = None) -> Fitted:
    """Train on all `records` into `out`: run.json, checkpoint, history, boxes and weights.

    Raises
    ------
    DataError
        A class has no picture, or there are more devices than the network has entries for.
    """
    chosen = settings or PaperSettings()
    devices = device_entries(records)
    facts = {
        "settings": asdict(chosen),
        "clip_norm": CLIP_NORM,
        "condition_left_out": CONDITION_LEFT_OUT,
        "devices": devices,
        "data_hash": data_hash(records),
    }
    begin_run(out, facts)
    pictures = [read_picture(record, devices) for record in records]
    kinds = torch.stack([picture.labels[0] for picture in pictures])
    steps = 2 * _rarer(kinds) // chosen.loop.batch_size
    if not steps:
        raise DataError("fewer pictures of a class than half a batch: give more data or a smaller batch")
    torch.manual_seed(chosen.loop.seed)
    device = best_device()
    task = Task(
        PaperUNet(chosen.network).to(device),
        lambda epoch: _placed(batches(pictures, chosen, epoch), device),
        lambda network, batch: loss(network, batch, chosen.loop.batch_size),
        steps,
        steer=warm_then_cosine,
    )
    fitted = fit(task, chosen.loop, out, f"paper {out.name}")
    if rank() == 0:
        write_arrays(out / BOXES, boxes_by_kind(pictures))
        weights = fitted.network.state_dict().items()
        with whole_file(out / WEIGHTS) as unfinished:
            save_file({name: values.contiguous() for name, values in weights}, unfinished)
    return fitted


def batches(pictures: Sequence[Picture], settings: PaperSettings, epoch: int) -> Iterator[Batch]:
    """The global batches of an epoch: picture, box map, labels, time and noise, for `loss`."""
    random = torch.Generator().manual_seed(settings.loop.seed * 1_000_003 + epoch)
    kinds = torch.stack([picture.labels[0] for picture in pictures])
    size = settings.loop.batch_size
    for part in balanced_order(kinds, random).split(size):
        if len(part) == size:
            yield _batch([pictures[int(index)] for index in part], settings.side, random)


def balanced_order(kinds: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Indices of as many benign as malignant pictures, all of the rarer kind, in random order."""
    count = _rarer(kinds)
    parts = []
    for kind in (BENIGN, MALIGNANT):
        of_kind = (kinds == kind).nonzero()[:, 0]
        parts.append(of_kind[torch.randperm(len(of_kind), generator=random)[:count]])
    order = torch.cat(parts)
    return order[torch.randperm(len(order), generator=random)]


def loss(network: torch.nn.Module, batch: Batch, global_size: int) -> torch.Tensor:
    """Squared error summed over pixels and pictures, over the square of the global batch size."""
    picture, drawn, labels, times, noise = batch
    noisy = torch.cat([add_noise(picture, noise, times), drawn], dim=1)
    error = network(noisy, times, labels).sample - noise
    return error.pow(2).sum(dim=(1, 2, 3)).mean() / global_size


def warm_then_cosine(network: torch.nn.Module, settings: LoopSettings, steps_per_epoch: int) -> Steering:
    """AdamW over all weights alike, and the published course of the learning rate, epoch by epoch."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    warm = int(settings.epochs * settings.warmup_share)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_factor(step // steps_per_epoch, settings.epochs, warm)
    )
    return Steering(optimizer, schedule, CLIP_NORM)


def rate_factor(epoch: int, epochs: int, warm: int) -> float:
    """Learning rate of an epoch (from 0) as a multiple of the base rate.

    Rises from 1 to 2.5 over `warm` epochs; then half a cosine as long as all epochs, begun after the rise,
    so that the last epoch still has some 4% of the peak: the released schedule, read literally.
    """
    if epoch <= warm:
        return 1 + (_PEAK - 1) * (epoch / warm if warm else 1)
    return _PEAK * (1 + math.cos(math.pi * (epoch - warm - 1) / epochs)) / 2


def boxes_by_kind(pictures: Sequence[Picture]) -> dict[str, npt.NDArray[np.float32]]:
    """All boxes (k, 4) of the benign and of the malignant pictures: the prior is fitted to them."""
    return {
        name: torch.cat([picture.boxes for picture in pictures if picture.labels[0] == kind]).numpy()
        for name, kind in (("benign", BENIGN), ("malignant", MALIGNANT))
    }


def _batch(pictures: Sequence[Picture], side: int, random: torch.Generator) -> Batch:
    squares, maps = zip(*(changed(picture, side, random) for picture in pictures), strict=True)
    square, drawn = torch.stack(squares), torch.stack(maps)
    labels = torch.stack([picture.labels for picture in pictures])
    if torch.rand((), generator=random) < CONDITION_LEFT_OUT:
        drawn, labels = torch.zeros_like(drawn), torch.zeros_like(labels)
    times = torch.randint(TIMES, (len(square),), generator=random)
    return square, drawn, labels, times, torch.randn(square.shape, generator=random)


def _placed(whole: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Of each global batch the rows of this process, where it trains."""
    for batch in whole:
        yield tuple(own_rows(values).to(device) for values in batch)


def _rarer(kinds: torch.Tensor) -> int:
    return int(min((kinds == BENIGN).sum(), (kinds == MALIGNANT).sum()))
