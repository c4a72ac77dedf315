"""What is not breast ultrasound, drawn: each kind is refused by the shipped gate, and named."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.drawn import PAINTERS, speckled
from models.runtime.loaded import load_models

SEED, EACH = 991, 8  # pictures that no fit has drawn


@given(st.sampled_from(sorted(PAINTERS)), st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_drawing_is_a_picture_and_its_seed_makes_it_again(kind, seed):
    grey = PAINTERS[kind](np.random.default_rng(seed))
    assert grey.dtype == np.uint8
    assert grey.ndim == 2
    assert min(grey.shape) >= 100
    assert np.array_equal(grey, PAINTERS[kind](np.random.default_rng(seed)))


def test_speckle_follows_the_echo_and_is_rayleigh():
    echo = np.full((300, 300), -20.0)
    echo[:, 150:] = -35.0
    grey = speckled(echo, np.random.default_rng(0)).astype(float)
    assert grey[:, :140].mean() - grey[:, 160:].mean() == pytest.approx(15 / 50 * 255, rel=0.1)
    envelope = 10 ** ((grey[:, :140] / 255 - 1) * 50 / 20)
    inside = envelope[(grey[:, :140] > 0) & (grey[:, :140] < 255)]
    assert inside.mean() / inside.std() == pytest.approx(1.91, rel=0.15), "the ratio of a Rayleigh envelope"


@pytest.mark.parametrize("kind", PAINTERS)
def test_the_shipped_gate_refuses_and_names_what_is_drawn(kind, lesion_model):
    random = np.random.default_rng(SEED)
    found = [lesion_model.find(PAINTERS[kind](random)) for _ in range(EACH)]
    assert not [one for one in found if one.familiar]
    names = Counter(one.kind for one in found)
    named = {name: count for name, count in names.items() if name}
    assert max(named, key=lambda name: (named[name], name == kind)) == kind, named


@pytest.fixture(scope="module")
def lesion_model():
    return load_models(threads=1).lesion
