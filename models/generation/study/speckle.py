"""Statistics of speckle in tissue: shape of the envelope's distribution, and how far it is correlated.

Promises: windows lie outside the lesion and hold picture; the same rule for real and generated pictures.
The scanners' compression is not published: the envelope is taken back as if 255 grey levels were 60 dB, so
shapes compare between sets and not with published ones.

Sources: Shankar 2000 (doi:10.1109/58.842062, Nakagami envelope); Wagner et al. 1983
(doi:10.1109/T-SU.1983.31404, size of speckle by autocovariance).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW_PX = 16
WIDE_PX = 32  # windows of the autocorrelation, which must hold its width
RANGE_DB = 60.0
_LEAST_GREY = 5
_LEAST_SHARE = 0.95  # of a window's pixels above it
Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Speckle:
    """Of one picture: median Nakagami shape; half-widths of the autocorrelation, px, down and across."""

    shape: float
    down: float
    across: float


def speckle_of(grey: Grey, mask: Mask) -> Speckle | None:
    """Statistics of the tissue of a picture, uint8 and bool (s, s); None without a window of either size."""
    narrow, widths = list(_windows(grey, mask, WINDOW_PX)), tissue_half_widths(grey, mask, grey)
    if not narrow or widths is None:
        return None
    return Speckle(float(np.median([nakagami_shape(envelope(grey[at])) for at in narrow])), *widths)


def tissue_half_widths(grey: Grey, mask: Mask, of: npt.NDArray[np.generic]) -> tuple[float, float] | None:
    """Half-widths of the autocorrelation, px, down and across, of values `of` (s, s) in a picture's tissue.

    None without a window.
    """
    wide = [of[at] for at in _windows(grey, mask, WIDE_PX)]
    return half_widths(np.stack(wide)) if wide else None


def envelope(grey: npt.NDArray[np.generic]) -> Floats:
    """Amplitudes whose logarithm the grey levels are, 1 at black."""
    amplitudes: Floats = 10 ** (np.asarray(grey, np.float64) / 255 * RANGE_DB / 20)
    return amplitudes


def nakagami_shape(amplitudes: Floats) -> float:
    """Shape m by moments: E[A^2]^2 / Var[A^2]; 1 for fully developed speckle (Rayleigh)."""
    power = np.square(amplitudes)
    spread = float(power.var())
    return float(power.mean() ** 2 / spread) if spread > 0 else float("inf")


def half_widths(windows: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Lags in px, down and across, at which the mean autocorrelation of windows (n, s, s) falls to one half.

    Autocovariance of each window without its mean, by products of pixels that both exist, averaged.
    """
    parts = np.asarray(windows, np.float64)
    parts = parts - parts.mean(axis=(1, 2), keepdims=True)
    side = parts.shape[-1]
    lags = np.arange(side // 2)
    down = np.array([(parts[:, : side - lag] * parts[:, lag:]).mean() for lag in lags])
    across = np.array([(parts[:, :, : side - lag] * parts[:, :, lag:]).mean() for lag in lags])
    return _half(down), _half(across)


def _half(covariance: Floats) -> float:
    """Where the curve first falls to half of its start, lags joined by straight lines; else the last."""
    if covariance[0] <= 0:
        return 0.0
    curve = covariance / covariance[0]
    below = np.flatnonzero(curve < 0.5)
    if not len(below):
        return float(len(curve) - 1)
    at = int(below[0])
    return float(at - 1 + (curve[at - 1] - 0.5) / (curve[at - 1] - curve[at]))


def _windows(grey: Grey, mask: Mask, side: int) -> Iterator[tuple[slice, slice]]:
    rows, columns = grey.shape
    for top in range(0, rows - side + 1, side):
        for left in range(0, columns - side + 1, side):
            place = slice(top, top + side), slice(left, left + side)
            if not mask[place].any() and (grey[place] > _LEAST_GREY).mean() >= _LEAST_SHARE:
                yield place
