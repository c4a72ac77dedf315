"""Membership inference: does the flow's loss on a picture tell that it was learned from?

Promises: every picture is judged at the same times and with the same noise, over all its frames as
training cuts them; averaged weights, no dropout, everything asked for known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from models.generation.conditions import CLASSES, NO_LESION
from models.generation.flow import Request
from models.generation.frames import FrameSet
from models.generation.product import Generator
from models.generation.train_autoencoder import unit

DRAWS = 32
_BATCH = 64


@torch.no_grad()
def losses(
    generator: Generator, frames: FrameSet, records: int, seed: int, draws: int = DRAWS
) -> npt.NDArray[np.float64]:
    """Mean squared error of the velocity of each of `records` pictures, over `draws` of time and noise."""
    tissue = CLASSES.index(NO_LESION)
    views = [np.flatnonzero((frames.source == i) & (frames.labels[:, 0] != tissue)) for i in range(records)]
    total = np.zeros(records)
    for draw in range(draws):
        chosen = np.array([own[draw % len(own)] for own in views])
        stream = torch.Generator().manual_seed(seed * 1000 + draw)
        time = (draw + float(torch.rand((), generator=stream))) / draws
        parts = [chosen[i : i + _BATCH] for i in range(0, len(chosen), _BATCH)]
        noise: torch.Tensor | None = None
        values = []
        for part in parts:
            latent, request = _latents(generator, frames, part)
            if noise is None:
                noise = torch.randn(1, *latent.shape[1:], generator=stream).to(latent.device)
            values.append(_errors(generator, latent, noise, time, request))
        total += np.concatenate(values)
    return total / draws


def _latents(
    generator: Generator, frames: FrameSet, chosen: Sequence[int] | npt.NDArray[np.int64]
) -> tuple[torch.Tensor, Request]:
    device, autoencoder = generator.device, generator.autoencoder
    grey = unit(torch.from_numpy(frames.grey[chosen]).unsqueeze(1)).to(device)
    mask = torch.from_numpy(frames.mask[chosen]).unsqueeze(1).float().to(device)
    latent = (autoencoder.encoder(grey, mask)[0] - autoencoder.latent_mean) / autoencoder.latent_scale
    request = Request(
        mask,
        unit(torch.from_numpy(frames.marks[chosen]).unsqueeze(1)),
        torch.from_numpy(frames.labels[chosen]),
        torch.from_numpy(frames.zoom[chosen]),
        torch.ones(len(chosen), 3),
    )
    return latent, request.to(device)


def _errors(
    generator: Generator, latent: torch.Tensor, noise: torch.Tensor, time: float, request: Request
) -> npt.NDArray[np.float64]:
    times = torch.full((len(latent),), time, device=latent.device)
    velocity = generator.flow((1 - time) * latent + time * noise, times, request)
    error = (velocity - (noise - latent)).square().mean(dim=(1, 2, 3))
    values: npt.NDArray[np.float64] = error.double().cpu().numpy()
    return values
