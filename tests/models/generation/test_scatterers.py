"""Speckle by physics: laws that hold for any width, strength and seed; what is fitted comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.train
pytest.importorskip("torch")

from models.generation.study.scatterers import (  # noqa: E402
    Scattering,
    fit_scattering,
    point_spread,
    scattered,
    texture_of,
)
from models.generation.study.speckle import half_widths, nakagami_shape  # noqa: E402

widths = st.floats(0.3, 2.0)
seeds = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=12, deadline=None)


def flat(grey: int, side: int = 128) -> np.ndarray:
    return np.full((1, side, side), grey, np.uint8)


@FEW
@given(widths, widths, st.floats(0.1, 1000), seeds)
def test_pure_scatterers_give_a_rayleigh_envelope_of_their_power(down, across, strength, seed):
    field = point_spread(np.full((4, 128, 128), strength), down, across, np.random.default_rng(seed))
    assert nakagami_shape(np.abs(field)) == pytest.approx(1, abs=0.2)
    assert np.square(np.abs(field)).mean() == pytest.approx(strength**2, rel=0.2)
    edge = np.concatenate([field[:, [0, -1]].ravel(), field[:, :, [0, -1]].ravel()])
    assert np.square(np.abs(edge)).mean() == pytest.approx(strength**2, rel=0.5), "up to the edge"


@FEW
@given(widths, widths, seeds)
def test_speckle_is_as_large_as_the_point_spread_makes_it(down, across, seed):
    """The field's autocorrelation falls to one half at 2 sqrt(ln 2) standard deviations of the amplitude."""
    down, across = down + 0.7, across + 0.7  # below, pixels are too coarse to read a half-width from
    field = point_spread(np.ones((4, 128, 128)), down, across, np.random.default_rng(seed))
    found = half_widths(np.concatenate([field.real, field.imag]))
    assert found == pytest.approx((1.665 * down, 1.665 * across), rel=0.15)


@FEW
@given(st.integers(90, 180), widths, widths, st.floats(0, 1), seeds)
def test_the_mean_grey_level_is_kept(grey, down, across, share, seed):
    made = scattered(
        np.repeat(flat(grey), 2, 0), Scattering(down, across, share), np.random.default_rng(seed)
    )
    assert made.mean() == pytest.approx(grey, abs=4)


@FEW
@given(st.integers(1, 255), widths, seeds)
def test_the_seed_gives_the_picture_and_black_stays_black(grey, width, seed):
    def drawn(number: int) -> np.ndarray:
        return scattered(smooth, Scattering(width, width), np.random.default_rng(number))

    smooth = flat(grey, 64)
    smooth[:, :, :32] = 0
    made = drawn(seed)
    assert (made == drawn(seed)).all()
    assert (made != drawn(seed + 1)).any()
    assert not made[:, :, :20].any(), "beyond the reach of the point spread nothing scatters"
    assert (scattered(smooth, Scattering(share=0), np.random.default_rng(seed)) == smooth).all()


@pytest.mark.parametrize("grain", [False, True])
def test_what_pictures_were_made_with_is_found_again(grain):
    random = np.random.default_rng(3)
    coarse = random.uniform(60, 150, (6, 4, 4)).astype(np.uint8)
    smooth = np.kron(coarse, np.ones((1, 32, 32), np.uint8)).astype(np.uint8)
    masks = np.zeros(smooth.shape, bool)
    true = Scattering(1.6, 0.9, 0.7)
    wanted = texture_of(scattered(smooth, replace(true, gain=true.gain * 1.2), random), masks, grain=grain)
    fitted, reached = fit_scattering(smooth, masks, wanted, 1, grain=grain)
    assert (fitted.down, fitted.across, fitted.share) == pytest.approx((1.6, 0.9, 0.7), rel=0.15)
    assert vars(reached) == pytest.approx(vars(wanted), rel=0.06)
