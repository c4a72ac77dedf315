"""Training the flow on latents that are encoded once, both ways round.

Promises: resumes after a kill; every draw comes from (seed, epoch) and is made alike in every process;
frames of validation patients are judged with the same noise at every epoch and never trained on.

Sources: rectified flow, Liu et al. 2023 (arXiv:2209.03003); times, Esser et al. 2024 (arXiv:2403.03206).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.generation.autoencoder import Autoencoder
from models.generation.flow import FlowNet, FlowSettings, Request, drop_out
from models.generation.pool import Pool
from models.generation.train_autoencoder import unit
from models.training.device import autocast
from models.training.loop import UNLIMITED, Batch, Fitted, Limits, LoopSettings, Task, fit
from models.training.parallel import own_rows
from models.training.run import cached

_JUDGED = 192  # validation frames whose loss is watched


_LOOP = LoopSettings(
    epochs=4000,  # more than a stage reaches: it ends by time
    batch_size=32,
    learning_rate=4e-4,
    weight_decay=0.01,
    ema_decay=0.999,
    warmup_share=0.0005,
    seed=1,
    schedule="constant",
)
_NETWORK = FlowSettings()


@dataclass(frozen=True)
class FlowTraining:
    """Settings of a run. The values are ours where no source is named.

    loop : most epochs, batch, rate of learning, average, seed; runs end by time or a named epoch long before
    steps_per_epoch : batches an epoch
    network : shape of the network
    everything : share of images of which nothing is asked, for guidance (Ho & Salimans 2022,
        arXiv:2207.12598: 0.1 or 0.2)
    one : share of images of which a label, the mask or the zoom is unknown, each on its own
    marks : share of images of which the map of suppressed marks is unknown
    low_precision : bfloat16 where the processor has it; set by the machine, no choice of a run
    """

    loop: LoopSettings = _LOOP
    steps_per_epoch: int = 25
    network: FlowSettings = _NETWORK
    everything: float = 0.1
    one: float = 0.1
    marks: float = 0.3
    low_precision: bool = False


@dataclass(frozen=True)
class Latents:
    """Latents of a pool's frames, float16 (n, 2, c, h, w): as they are, and of the mirrored frames."""

    values: torch.Tensor


@torch.no_grad()
def latents_of(autoencoder: Autoencoder, pool: Pool, device: torch.device) -> Latents:
    """All frames of a pool through the encoder, to unit variance."""
    parts = []
    for index in torch.arange(len(pool)).split(64):
        grey, mask = unit(pool.grey[index]).to(device), pool.mask[index].float().to(device)
        both = [autoencoder.encoder(grey, mask)[0], autoencoder.encoder(grey.flip(3), mask.flip(3))[0]]
        normal = [(part - autoencoder.latent_mean) / autoencoder.latent_scale for part in both]
        parts.append(torch.stack(normal, dim=1).half().cpu())
    return Latents(torch.cat(parts))


def encode(autoencoder: Autoencoder, pool: Pool, cache: Path, name: str, device: torch.device) -> Latents:
    """The latents of a pool, kept under `cache` for this encoder."""
    digest = hashlib.sha256()
    for values in autoencoder.encoder.state_dict().values():
        digest.update(values.cpu().numpy().tobytes())

    def make() -> dict[str, npt.NDArray[np.float16]]:
        return {"values": latents_of(autoencoder, pool, device).values.numpy()}

    return Latents(
        torch.from_numpy(cached(cache / f"latents-{name}-{digest.hexdigest()[:12]}.npz", make)["values"])
    )


def request_of(pool: Pool, index: torch.Tensor, flip: torch.Tensor) -> Request:
    """What frames of a pool show; labels, mask, marks and zoom all known."""
    mirrored = flip[:, None, None, None]
    mask, marks = pool.mask[index].float(), unit(pool.marks[index])
    return Request(
        torch.where(mirrored, mask.flip(3), mask),
        torch.where(mirrored, marks.flip(3), marks),
        pool.labels[index],
        pool.zoom[index],
        torch.ones(len(index), 3),
    )


def flow_loss(network: nn.Module, batch: Batch, *, low_precision: bool) -> torch.Tensor:
    """Mean squared error of the velocity (Liu et al. 2023, arXiv:2209.03003, equation 1).

    Batch: latent, noise, times, then the parts of a Request.
    """
    latent, noise, times, *parts = batch
    at = times[:, None, None, None]
    with autocast(latent.device, low_precision=low_precision):
        velocity = network((1 - at) * latent + at * noise, times, Request(*parts))
    return (velocity.float() - (noise - latent)).square().mean()


def train_flow(
    train: tuple[Pool, Latents],
    validation: tuple[Pool, Latents],
    out: Path,
    settings: FlowTraining,
    device: torch.device,
    *,
    earlier: Fitted | None = None,
    limits: Limits = UNLIMITED,
    after_epoch: Callable[[Fitted], None] = lambda fitted: None,
) -> Fitted:
    """Train into `out`; `earlier`: weights and history of an earlier stage."""
    torch.manual_seed(settings.loop.seed)
    network = (FlowNet(settings.network) if earlier is None else earlier.network).to(device)
    judged = _judged(*validation, settings.loop.seed)

    def batches(epoch: int) -> Iterator[Batch]:
        for _ in range(settings.steps_per_epoch):
            yield tuple(own_rows(part).to(device) for part in draw_batch(*train, settings))

    @torch.no_grad()
    def evaluate(average: nn.Module) -> dict[str, float]:
        parts = [tuple(part.to(device) for part in batch) for batch in judged]
        losses = [float(flow_loss(average, batch, low_precision=settings.low_precision)) for batch in parts]
        return {"validation_loss": float(np.mean(losses))}

    task = Task(
        network,
        batches,
        lambda net, batch: flow_loss(net, batch, low_precision=settings.low_precision),
        settings.steps_per_epoch,
        evaluate,
    )
    before = earlier.history if earlier else ()
    return fit(task, settings.loop, out, "flow", before=before, limits=limits, after_epoch=after_epoch)


def draw_batch(pool: Pool, latents: Latents, settings: FlowTraining) -> Batch:
    """One batch of `flow_loss`, drawn from torch's seed."""
    count = settings.loop.batch_size
    index, flip = pool.draw(count), torch.rand(count) < 0.5
    latent = latents.values[index, flip.long()].float()
    # Logit-normal with mean 0 and spread 1: the middle of the path is the hard part (Esser et al. 2024,
    # arXiv:2403.03206, section 3.1)
    times = torch.randn(count).sigmoid()
    noise = torch.randn(latent.shape)
    request = drop_out(request_of(pool, index, flip), settings.everything, settings.one, settings.marks)
    return latent, noise, times, *request.parts()


def _judged(pool: Pool, latents: Latents, seed: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    batches: list[Batch] = []
    for index in torch.linspace(0, len(pool) - 1, min(_JUDGED, len(pool))).long().split(64):
        latent = latents.values[index, 0].float()
        noise = torch.randn(latent.shape, generator=generator)
        times = (torch.arange(len(index)) + 0.5) / len(index)
        request = request_of(pool, index, torch.zeros(len(index), dtype=torch.bool))
        batches.append(
            (latent, noise, times[torch.randperm(len(index), generator=generator)], *request.parts())
        )
    return batches
