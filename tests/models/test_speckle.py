"""Statistics of speckle against simulated envelopes whose shape and width are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from models.generation.study.speckle import (
    RANGE_DB,
    envelope,
    half_widths,
    nakagami_shape,
    speckle_of,
)


def compressed(amplitudes: np.ndarray) -> np.ndarray:
    """Grey levels of amplitudes, as if 255 were 60 dB, centred in the range."""
    decibels = 20 * np.log10(amplitudes / np.median(amplitudes)) + RANGE_DB / 2
    return np.clip(np.rint(decibels / RANGE_DB * 255), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_the_shape_of_a_known_envelope_survives_compression(shape):
    power = np.random.default_rng(1).gamma(shape, 1 / shape, 200_000)
    assert nakagami_shape(np.sqrt(power)) == pytest.approx(shape, rel=0.03)
    assert nakagami_shape(envelope(compressed(np.sqrt(power)))) == pytest.approx(shape, rel=0.06)


@pytest.mark.parametrize(("down", "across"), [(0.8, 0.8), (1.0, 2.0), (2.0, 1.2)])
def test_the_width_of_known_speckle(down, across):
    """White noise under a Gaussian of spread s: its autocorrelation falls to half at 2 s sqrt(ln 2)."""
    noise = np.random.default_rng(2).standard_normal((40, 96, 96))
    smooth = np.stack([ndimage.gaussian_filter(one, (down, across))[32:64, 32:64] for one in noise])
    found = half_widths(smooth)
    for value, spread in zip(found, (down, across), strict=True):
        assert value == pytest.approx(2 * spread * np.sqrt(np.log(2)), rel=0.12)
    turned = half_widths(smooth.transpose(0, 2, 1))
    assert turned == pytest.approx(found[::-1])
    assert half_widths(3 * smooth + 7) == pytest.approx(found), "neither gain nor offset"


def test_windows_keep_to_tissue():
    random = np.random.default_rng(3)
    field = random.standard_normal((2, 128, 128))
    grey = compressed(np.hypot(*field))
    mask = np.zeros((128, 128), bool)
    mask[40:90, 40:90] = True
    found = speckle_of(grey, mask)
    assert found.shape == pytest.approx(1, abs=0.2), "Rayleigh"
    changed = grey.copy()
    changed[mask] = 255
    assert speckle_of(changed, mask) == found
    assert speckle_of(grey, np.ones((128, 128), bool)) is None
    assert speckle_of(np.zeros((128, 128), np.uint8), np.zeros((128, 128), bool)) is None
