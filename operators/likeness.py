"""How much two views of a lesion look like views of one lesion: geometry and appearance.

Promises: six numbers a view, the same for the same pixels, none of them learned; one score a pair, whose
weights were fitted to pairs of BUS-BRA views (docs/measurements.md). Two planes through one lesion that both
hold the beam share its depth and its height (the extent along the beam); its width may differ. Brightness is
told relative to the tissue beside the lesion, so that gain does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.study import Region

Three = tuple[float, float, float]

# Fitted by `busmap validate views` on the views found in BUS-BRA folds 1-4; order as in `differences`.
WEIGHTS = (-1.7, -4.5, -7.5, -3.5, -9.3, -2.6)
INTERCEPT = 5.1
# SAME: the greatest sum of sensitivity and specificity there. OTHER: below it at most one pair in twenty is
# of one lesion, where four in five are before looking.
SAME, OTHER = 0.0, -4.3
_DARK = 1.0  # grey level added to means, so that a black lesion has a finite logarithm


@dataclass(frozen=True)
class Appearance:
    """A lesion in a view.

    `extent`: width, height, and depth of the centre below the top of the region, in parts of the region's
    height; `extent_mm`: the same in millimetres, None where the region is not calibrated. `echo`: logarithm
    of the lesion's mean brightness over that of the tissue at its sides; `texture`: standard deviation over
    mean inside; `posterior`: logarithm of the brightness below it over that beside there.
    """

    extent: Three
    extent_mm: Three | None
    echo: float
    texture: float
    posterior: float


def appearance(clean: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], region: Region) -> Appearance:
    """Measure a lesion: `clean` and `mask` are (region.rows, region.columns), the mask not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    width, height, depth = float(right - left), float(bottom - top), (top + bottom) / 2
    across, down = region.mm_per_pixel_x, region.mm_per_pixel_y
    half = max(1, (right - left) // 2)
    sides = (slice(max(0, left - half), left), slice(right, right + half))
    below = slice(bottom, bottom + max(1, (bottom - top) // 2))
    middle = slice(left + half // 2, max(right - half // 2, left + half // 2 + 1))
    inside = clean[mask].astype(np.float32)
    return Appearance(
        extent=(width / region.rows, height / region.rows, depth / region.rows),
        extent_mm=None if across is None or down is None else (width * across, height * down, depth * down),
        echo=_log_ratio(float(inside.mean()), _mean([clean[top:bottom, side] for side in sides])),
        texture=float(inside.std() / (inside.mean() + _DARK)),
        posterior=_log_ratio(_mean([clean[below, middle]]), _mean([clean[below, side] for side in sides])),
    )


def _log_ratio(one: float, other: float) -> float:
    return float(np.log((one + _DARK) / (other + _DARK)))


def _mean(parts: list[npt.NDArray[np.uint8]]) -> float:
    """Mean brightness over parts of a picture; 0 where they hold no pixel."""
    pixels = np.concatenate([part.ravel() for part in parts])
    return float(pixels.mean()) if pixels.size else 0.0


def differences(one: Appearance, other: Appearance) -> npt.NDArray[np.float64]:
    """What tells two lesions apart, float64 (6,), all at least 0 and the same either way round.

    Of width and height the absolute logarithm of their ratio; of depth the distance over the mean height; of
    echo, texture and posterior brightness the absolute difference. In millimetres where both have them.
    """
    if one.extent_mm is not None and other.extent_mm is not None:
        first, second = one.extent_mm, other.extent_mm
    else:
        first, second = one.extent, other.extent
    return np.array(
        [
            abs(np.log(first[0] / second[0])),
            abs(np.log(first[1] / second[1])),
            abs(first[2] - second[2]) * 2 / (first[1] + second[1]),
            abs(one.echo - other.echo),
            abs(one.texture - other.texture),
            abs(one.posterior - other.posterior),
        ]
    )


def likeness(one: Appearance, other: Appearance) -> float:
    """Log odds that two views show one lesion, were one pair in two of one lesion."""
    return float(differences(one, other) @ WEIGHTS + INTERCEPT)
