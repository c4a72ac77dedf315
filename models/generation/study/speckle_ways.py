"""Ways to make speckle: the same frames rebuilt from the same latents.

Ways: drawn (by the decoder, from noise, as shipped); silenced (the same decoder, its noise zero); scattered
(the silenced picture as local strength of random scatterers); regrained (the same from the silenced picture
averaged until its own grain is gone).

Promises: ways differ in speckle alone; scatterers are fitted, device by device, to frames that the generator
learned from, and to no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from models.data.record import DataError
from models.generation.autoencoder import draw_noise
from models.generation.draw import BATCH, image_seed
from models.generation.product import Generator
from models.generation.study.privacy import Half
from models.generation.study.scatterers import (
    Grey,
    Scattering,
    Texture,
    averaged,
    fit_scattering,
    scattered,
    texture_of,
)

WAYS: Final = ("drawn", "silenced", "scattered", "regrained")
SCATTERED: Final = WAYS[2:]
EVERY: Final = "every device"
_FITTED = 64  # frames of each device to which scatterers are fitted


@dataclass(frozen=True)
class Fit:
    """Scatterers fitted, the texture wanted, that of frames learned from, and the one reached."""

    scattering: Scattering
    wanted: Texture
    reached: Texture | None


@torch.no_grad()
def rebuilt(generator: Generator, learned: Half, chosen: npt.NDArray[np.int64], seed: int | None) -> Grey:
    """What comes back of frames from their latents, uint8 (n, s, s); without noise where there is no seed."""
    frames, autoencoder, device = learned.frames, generator.autoencoder, generator.device
    parts = []
    for start in range(0, len(chosen), BATCH):
        own = chosen[start : start + BATCH]
        grey = torch.from_numpy(frames.grey[own]).unsqueeze(1).to(device).float() / 255
        mask = torch.from_numpy(frames.mask[own]).unsqueeze(1).to(device).float()
        stream = torch.Generator().manual_seed(image_seed(seed or 0, start))
        noise = draw_noise(len(own), grey.shape[-1], device, stream)
        if seed is None:
            noise = [torch.zeros_like(part) for part in noise]
        latent, _ = autoencoder.encoder(grey, mask)
        drawn = autoencoder.decoder(latent, mask, noise)
        parts.append((drawn[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
    return np.concatenate(parts)


def fitted(generator: Generator, learned: Half, seed: int) -> dict[str, dict[str, Fit]]:
    """Scatterers of each way that has some, by device and for `EVERY`.

    Raises
    ------
    DataError
        No frame learned from shows tissue enough to measure.
    """
    inside = learned.learned_from()
    devices = _devices(learned, inside)
    fits: dict[str, dict[str, Fit]] = {way: {} for way in SCATTERED}
    for name in (EVERY, *sorted(set(devices))):
        own = inside if name == EVERY else inside[devices == name]
        own = own[np.linspace(0, len(own) - 1, min(_FITTED, len(own))).round().astype(int)]
        masks, smooth = learned.frames.mask[own] > 0, rebuilt(generator, learned, own, None)
        for way in SCATTERED:
            grain = way == "regrained"
            wanted = texture_of(learned.frames.grey[own], masks, grain=grain)
            if wanted is not None:
                strength = averaged(smooth) if grain else smooth
                scattering, reached = fit_scattering(strength, masks, wanted, seed, grain=grain)
                fits[way][name] = Fit(scattering, wanted, reached)
    if not all(EVERY in own for own in fits.values()):
        raise DataError("no frame that the generator learned from shows tissue enough to measure its speckle")
    return fits


def _devices(learned: Half, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    return np.array([learned.records[i].device for i in learned.frames.source[chosen]])


def made(
    generator: Generator,
    learned: Half,
    chosen: npt.NDArray[np.int64],
    fits: Mapping[str, Mapping[str, Fit]],
    seed: int,
) -> dict[str, Grey]:
    """The frames in each way, uint8 (n, s, s); scatterers as fitted to their device, or to every one."""
    smooth, devices = rebuilt(generator, learned, chosen, None), _devices(learned, chosen)

    def speckled(pictures: Grey, own: Mapping[str, Fit]) -> Grey:
        drawn = [
            scattered(
                grey[None], own.get(device, own[EVERY]).scattering, np.random.default_rng([seed, 29, i])
            )
            for i, (grey, device) in enumerate(zip(pictures, devices, strict=True))
        ]
        return np.concatenate(drawn)

    return {
        "drawn": rebuilt(generator, learned, chosen, seed),
        "silenced": smooth,
        "scattered": speckled(smooth, fits["scattered"]),
        "regrained": speckled(averaged(smooth), fits["regrained"]),
    }
