"""Fitting the gate: frames of a device left out pass, what is far does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.fit_gate import SHARE, gate_from, vary


def _features(count: int, shift: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(size=(count, 40)) * np.linspace(3, 0.3, 40) + shift).astype(np.float32)


def _fitted():
    plain = np.concatenate([_features(200, 0.0, 1), _features(100, 0.15, 2)])
    noise = np.random.default_rng(3).normal(scale=0.3, size=(300, 2, 40)).astype(np.float32)
    varied = plain[:, None] + noise
    return gate_from(plain, varied, ["one"] * 200 + ["two"] * 100)


def test_frames_of_each_device_pass_and_what_is_far_does_not():
    gate = _fitted()
    assert gate.accepts(_features(300, 0.0, 5)).mean() >= SHARE - 0.02
    assert gate.accepts(_features(300, 0.15, 6)).mean() >= SHARE - 0.03
    assert not gate.accepts(_features(50, 12.0, 7)).any()


def test_one_device_is_not_enough():
    features = _features(50, 0, 1)
    with pytest.raises(ValueError, match="two devices"):
        gate_from(features, features[:, None], ["one"] * 50)


@given(st.integers(20, 120), st.integers(20, 120), st.integers(0, 1000))
def test_a_varied_picture_is_a_picture(rows, columns, seed):
    grey = np.random.default_rng(seed).integers(0, 256, (rows, columns), np.uint8)
    varied = vary(grey, np.random.default_rng(seed))
    assert varied.dtype == np.uint8
    assert varied.ndim == 2
    assert min(varied.shape) >= 8
    assert (varied == vary(grey, np.random.default_rng(seed))).all(), "the same seed, the same picture"
