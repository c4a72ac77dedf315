"""Membership inference: does the flow's loss on a picture tell that it was learned from?

Promises: everything is judged at the same times and with the same noise, over all its frames as training
cuts them; averaged weights, no dropout, everything asked for known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.generation.conditions import CLASSES, NO_LESION
from models.generation.flow import FlowNet, Request
from models.generation.frames import FrameSet
from models.generation.product import Generator
from models.generation.train_autoencoder import unit

DRAWS = 32
_BATCH = 64
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trials:
    """What a flow is judged at: `n` owners in `d` draws of time and noise.

    chosen : int (d, n), frame of each owner
    latents : float (d, n, c, h, w), of these
    times : (d,); noise : (d, c, h, w), the same for every owner
    """

    frames: FrameSet
    chosen: npt.NDArray[np.int64]
    latents: torch.Tensor
    times: Sequence[float]
    noise: torch.Tensor


def losses(
    generator: Generator, frames: FrameSet, records: int, seed: int, draws: int = DRAWS
) -> npt.NDArray[np.float64]:
    """Mean squared error of the velocity of each of `records` pictures, over `draws` of time and noise."""
    lesion = lesion_frames(frames)
    views = [np.flatnonzero((frames.source == i) & lesion) for i in range(records)]
    return losses_at(generator.flow, trials_of(generator, frames, views, seed, draws))


def lesion_frames(frames: FrameSet) -> npt.NDArray[np.bool_]:
    """Of every frame, whether it was cut around a lesion."""
    shows: npt.NDArray[np.bool_] = frames.labels[:, 0] != CLASSES.index(NO_LESION)
    return shows


@torch.no_grad()
def trials_of(
    generator: Generator, frames: FrameSet, views: Sequence[Places], seed: int, draws: int
) -> Trials:
    """Draw times and noise and encode; `views`: frames of each owner, taken in turn, draw by draw."""
    chosen = np.array([[own[draw % len(own)] for own in views] for draw in range(draws)], np.int64)
    latents = torch.stack([_latents(generator, frames, row) for row in chosen])
    times, noise = [], []
    for draw in range(draws):
        stream = torch.Generator().manual_seed(seed * 1000 + draw)
        times.append((draw + float(torch.rand((), generator=stream))) / draws)
        noise.append(torch.randn(latents.shape[2:], generator=stream))
    return Trials(frames, chosen, latents, times, torch.stack(noise).to(latents.device))


@torch.no_grad()
def losses_at(flow: FlowNet, trials: Trials) -> npt.NDArray[np.float64]:
    """Mean squared error of the velocity (n,) of each owner, over all draws."""
    total = np.zeros(trials.chosen.shape[1])
    for row, latents, time, noise in zip(
        trials.chosen, trials.latents, trials.times, trials.noise, strict=True
    ):
        for start in range(0, len(row), _BATCH):
            part = slice(start, start + _BATCH)
            request = _request(trials.frames, row[part]).to(latents.device)
            total[part] += _errors(flow, latents[part], noise, time, request)
    return total / len(trials.times)


def _latents(generator: Generator, frames: FrameSet, chosen: Places) -> torch.Tensor:
    device, autoencoder = generator.device, generator.autoencoder
    parts = []
    for start in range(0, len(chosen), _BATCH):
        own = chosen[start : start + _BATCH]
        grey = unit(torch.from_numpy(frames.grey[own]).unsqueeze(1)).to(device)
        mask = torch.from_numpy(frames.mask[own]).unsqueeze(1).float().to(device)
        mean = autoencoder.encoder(grey, mask)[0]
        parts.append((mean - autoencoder.latent_mean) / autoencoder.latent_scale)
    return torch.cat(parts)


def _request(frames: FrameSet, chosen: Places) -> Request:
    return Request(
        torch.from_numpy(frames.mask[chosen]).unsqueeze(1).float(),
        unit(torch.from_numpy(frames.marks[chosen]).unsqueeze(1)),
        torch.from_numpy(frames.labels[chosen]),
        torch.from_numpy(frames.zoom[chosen]),
        torch.ones(len(chosen), 3),
    )


def _errors(
    flow: FlowNet, latent: torch.Tensor, noise: torch.Tensor, time: float, request: Request
) -> npt.NDArray[np.float64]:
    times = torch.full((len(latent),), time, device=latent.device)
    velocity = flow((1 - time) * latent + time * noise, times, request)
    error = (velocity - (noise - latent)).square().mean(dim=(1, 2, 3))
    values: npt.NDArray[np.float64] = error.double().cpu().numpy()
    return values
