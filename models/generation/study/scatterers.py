"""Speckle by physics: random scatterers seen through a point spread, the envelope compressed.

Promises: the same strength, widths and seed make the same picture; black stays black; for pure scatterers the
envelope is Rayleigh's. The scanners' compression is not published: 255 grey levels are taken as 60 dB above
a floor below which nothing scatters, as in `speckle`.

Source: Wagner et al. 1983 (doi:10.1109/T-SU.1983.31404, fully developed speckle and its size).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from models.generation.study.speckle import RANGE_DB, envelope, tissue_half_widths
from models.generation.texture import local_spread

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
GREY_A_DB: Final = 255 / RANGE_DB
# By this factor a Rayleigh envelope of unit power lies below 1 in the mean of its logarithm.
RAYLEIGH_GAIN: Final = float(np.exp(np.euler_gamma / 2))
AVERAGED_PX: Final = 2.0  # standard deviation of the average that parts anatomy from grain
_ROUNDS = 10
_WIDTHS = (0.2, 6.0)  # px
_MOST_SHARE = 1.5
_REACH = 3  # standard deviations to which the point spread is drawn


@dataclass(frozen=True)
class Scattering:
    """How speckle is made.

    down, across : standard deviations of the point spread's amplitude, px
    share : of the speckle's logarithm that is shown; 1 is Rayleigh's, less is a scanner that smooths
    gain : of the envelope; `RAYLEIGH_GAIN` keeps the mean grey level
    """

    down: float = 1.0
    across: float = 1.0
    share: float = 1.0
    gain: float = RAYLEIGH_GAIN


@dataclass(frozen=True)
class Texture:
    """Of a set of pictures: half-widths of the autocorrelation, px; local spread and mean, grey levels."""

    down: float
    across: float
    spread: float
    mean: float


def averaged(grey: Grey) -> Grey:
    """Pictures (n, s, s) averaged until their grain is gone."""
    return (
        ndimage.gaussian_filter(grey.astype(np.float64), (0, AVERAGED_PX, AVERAGED_PX))
        .round()
        .astype(np.uint8)
    )


def scattered(smooth: Grey, scattering: Scattering, random: np.random.Generator) -> Grey:
    """Pictures (n, s, s) without speckle, taken as local strength of scattering -> with speckle drawn."""
    strength = envelope(smooth) - 1
    field = point_spread(strength, scattering.down, scattering.across, random)
    compressed = 20 * GREY_A_DB * np.log10(1 + scattering.gain * np.abs(field))
    mixed = smooth + scattering.share * (compressed - smooth)
    grey: Grey = mixed.clip(0, 255).round().astype(np.uint8)
    return grey


def point_spread(
    strength: Floats, down: float, across: float, random: np.random.Generator
) -> npt.NDArray[np.complex128]:
    """The field of scatterers, one a pixel, of local strength (n, s, s), through a Gaussian of energy 1.

    Scatterers lie beyond the edges as well, as strong as at the edge: speckle is the same up to there.
    """
    kernels = [_kernel(width) for width in (down, across)]
    pads = [len(kernel) // 2 for kernel in kernels]
    padded = np.pad(strength, [(0, 0), *((pad, pad) for pad in pads)], mode="edge")
    parts = random.standard_normal((2, *padded.shape)) / np.sqrt(2)
    field = padded * (parts[0] + 1j * parts[1])
    for axis, kernel in enumerate(kernels, 1):
        field = ndimage.convolve1d(field, kernel, axis, mode="constant")
    rows, columns = (slice(pad, pad + size) for pad, size in zip(pads, strength.shape[1:], strict=True))
    cut: npt.NDArray[np.complex128] = field[:, rows, columns]
    return cut


def _kernel(width: float) -> Floats:
    reach = int(np.ceil(_REACH * width))
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
    kernel: Floats = taps / np.sqrt(np.square(taps).sum())
    return kernel


def texture_of(grey: Grey, masks: npt.NDArray[np.bool_], *, grain: bool) -> Texture | None:
    """Means over pictures (n, s, s); None where none shows tissue enough for a window.

    `grain`: half-widths are those of the pictures less their average, else tissue's layers make them wider.
    """
    values = grey.astype(np.float64) - averaged(grey) if grain else grey
    found = [tissue_half_widths(*three) for three in zip(grey, masks, values, strict=True)]
    widths = [pair for pair in found if pair is not None]
    if not widths:
        return None
    down, across = np.mean(widths, axis=0)
    return Texture(float(down), float(across), float(spreads(grey).mean()), float(grey.mean()))


def spreads(grey: Grey) -> Floats:
    """Of each picture (n, s, s) the mean standard deviation within windows of 8 px, grey levels (n,)."""
    local = local_spread(torch.from_numpy(grey).unsqueeze(1).float() / 255)
    values: Floats = (255 * local.mean((1, 2, 3))).double().numpy()
    return values


def fit_scattering(
    smooth: Grey, masks: npt.NDArray[np.bool_], wanted: Texture, seed: int, *, grain: bool
) -> tuple[Scattering, Texture | None]:
    """The scattering that gives pictures (n, s, s) the texture wanted, and what it gives them.

    Each round draws the same scatterers, measures as `wanted` was, and corrects each quantity by its ratio.
    """

    def reached() -> Texture | None:
        made = scattered(smooth, scattering, np.random.default_rng(seed))
        return texture_of(made, masks, grain=grain)

    scattering = Scattering()
    for _ in range(_ROUNDS):
        own = reached()
        if own is None:
            break
        scattering = _corrected(scattering, own, wanted)
    return scattering, reached()


def _corrected(scattering: Scattering, own: Texture, wanted: Texture) -> Scattering:
    def ratio(name: str) -> float:
        return float(np.clip(getattr(wanted, name) / max(getattr(own, name), 1e-3), 0.5, 2))

    down, across = (float(np.clip(getattr(scattering, n) * ratio(n), *_WIDTHS)) for n in ("down", "across"))
    share = min(scattering.share * ratio("spread"), _MOST_SHARE)
    missing_db = (wanted.mean - own.mean) / GREY_A_DB / max(share, 0.1)
    return Scattering(down, across, share, scattering.gain * 10 ** (float(np.clip(missing_db, -3, 3)) / 20))
