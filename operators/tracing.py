"""Pictures whose horizontal axis is time: M-mode and Doppler spectra, told by their stripes.

Promises: strict rules, so that anatomy is not taken for a tracing; what they miss the gate may still refuse.
An M-mode repeats one line of echoes: each column is nearly the one before, moved up or down. A spectrum is a
dark field in which every column is one bright run that stands on a common baseline.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.runtime.preprocess import Grey
from operators.regions import textured_blocks

_LAG_SHARE = 0.06  # of the width: beyond the width of speckle, within one beat
_FINE_SHARE = 0.03  # of the height: coarser structure than this is taken away first
_SHIFT_SHARE = 0.04  # of the height that a layer may have moved over the lag
_M_MODE_LIKENESS = 0.70
_ECHOES = 0.5  # share of an M-mode's blocks that hold more than an even grey
_SPECTRUM_DARK = 24
_DARK_SHARE = 0.45
_ON_BASELINE_SHARE = 0.90  # of the bright pixels in runs that touch the baseline
_UNEVEN = 0.25  # spread of the runs' heights over their mean
_LOW_SHARE = 0.25  # of the highest run, which the lowest tenth stays below
_MINIMUM_SIDE = 48
_WORKING_ROWS, _WORKING_COLUMNS = 160, 240


def is_m_mode(grey: Grey) -> bool:
    """Whether a region, uint8 (rows, columns), repeats one line of echoes over its width."""
    blocks = textured_blocks(grey)
    echoes = blocks.size and blocks.mean() >= _ECHOES
    return bool(echoes) and m_mode_likeness(grey) >= _M_MODE_LIKENESS


def m_mode_likeness(grey: Grey) -> float:
    """Median likeness (correlation, at most 1) of columns a lag apart, at the best shift up or down."""
    if min(grey.shape) < _MINIMUM_SIDE:
        return 0.0
    zoom = (min(1.0, _WORKING_ROWS / grey.shape[0]), min(1.0, _WORKING_COLUMNS / grey.shape[1]))
    small = ndimage.zoom(grey.astype(np.float32), zoom, order=1)
    fine = small - ndimage.gaussian_filter1d(small, _FINE_SHARE * len(small), axis=0)
    lag, reach = max(8, round(_LAG_SHARE * fine.shape[1])), max(2, round(_SHIFT_SHARE * len(fine)))
    first, second = fine[reach:-reach, :-lag], fine[:, lag:]
    best = np.full(first.shape[1], -1.0, np.float32)
    for shift in range(2 * reach + 1):
        moved = second[shift : shift + len(first)]
        best = np.maximum(best, _correlation(first, moved))
    return float(np.median(best))


def _correlation(one: npt.NDArray[np.float32], two: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Correlation of equal columns of (rows, columns); 0 where a column is even."""
    one, two = one - one.mean(axis=0), two - two.mean(axis=0)
    size = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    result: npt.NDArray[np.float32] = np.where(size > 1, (one * two).sum(axis=0) / np.maximum(size, 1), 0)
    return result


def is_spectrum(grey: Grey) -> bool:
    """Whether a region, uint8 (rows, columns), is a Doppler spectrum standing on a baseline."""
    if min(grey.shape) < _MINIMUM_SIDE or (grey <= _SPECTRUM_DARK).mean() < _DARK_SHARE:
        return False
    bright = ndimage.binary_closing(grey > _SPECTRUM_DARK, np.ones((5, 3)))
    total = bright.sum()
    if not total:
        return False
    baseline = int(np.argmax(bright.sum(axis=1)))
    if bright[baseline].mean() < _ON_BASELINE_SHARE:
        return False
    above = np.logical_and.accumulate(bright[baseline::-1], axis=0).sum(axis=0)
    below = np.logical_and.accumulate(bright[baseline:], axis=0).sum(axis=0)
    height = above + below
    standing = height.sum() >= _ON_BASELINE_SHARE * total
    uneven = height.std() >= _UNEVEN * height.mean()
    return bool(standing and uneven and np.quantile(height, 0.1) <= _LOW_SHARE * height.max())
