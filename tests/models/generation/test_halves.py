"""Halves of patients: nobody is split, and their spread is that of fresh sets."""

from __future__ import annotations

import numpy as np
import pytest
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
    """The spread over halves is that over fresh sets (KID of Gaussians, 60 patients of 2 pictures)."""
    random = np.random.default_rng(0)
    patients = [f"p{i // 2}" for i in range(120)]

    def features(shift):
        return (
            np.repeat(random.standard_normal((60, 8)), 2, 0) + 0.3 * random.standard_normal((120, 8)) + shift
        )

    fresh, halved, halves = [], [], patient_halves(patients, np.random.default_rng(1), 60)
    for _ in range(40):
        real, made = features(0), features(0.5)
        fresh.append(kid(real, made))
        by_half = np.array([kid(real[half], made[half]) for half in halves])
        low, high = half_interval(fresh[-1], by_half)
        halved.append((high - low) / (2 * 1.96))
    assert np.mean(halved) == pytest.approx(np.std(fresh), rel=0.45)
