"""Halves of patients: nobody is split, and their spread is that of fresh sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.generation.distances import kid
from models.generation.halves import half_interval, patient_halves


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40), st.integers(0, 2**31))
def test_nobody_is_split(patients, seed):
    for half in patient_halves(patients, np.random.default_rng(seed), 5):
        inside = {patients[i] for i in half}
        outside = {patients[i] for i in np.setdiff1d(np.arange(len(patients)), half)}
        assert not inside & outside
        assert len(inside) == max(1, len(set(patients)) // 2)


def test_random_halves_vary_as_the_whole_does():
    """The spread over halves is that over fresh sets (KID of Gaussians, 60 patients of 2 pictures).

    Halves of pictures instead of patients would make it a third too small (0.67): that is told apart.
    """
    random = np.random.default_rng(0)
    by_owner = [
        patient_halves([f"p{i // pictures}" for i in range(120)], np.random.default_rng(1), 30)
        for pictures in (2, 1)
    ]

    def features(shift):
        return (
            np.repeat(random.standard_normal((60, 8)), 2, 0) + 0.3 * random.standard_normal((120, 8)) + shift
        )

    fresh, spreads = [], ([], [])
    for _ in range(200):
        real, made = features(0), features(0.5)
        fresh.append(kid(real, made))
        for halves, spread in zip(by_owner, spreads, strict=True):
            by_half = np.array([kid(real[half], made[half]) for half in halves])
            low, high = half_interval(fresh[-1], by_half)
            spread.append((high - low) / (2 * 1.96))
    of_patients, of_pictures = (np.mean(spread) / np.std(fresh) for spread in spreads)
    assert 0.9 < of_patients < 1.35, "never much too narrow; a little wide at so few patients"
    assert of_pictures < 0.8
