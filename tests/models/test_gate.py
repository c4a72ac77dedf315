"""The gate, the cutting of lesions out of a map, and calibration."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtime.calibration import load_calibration, make_calibration
from models.runtime.components import ComponentRule, components
from models.runtime.engine import ModelError
from models.runtime.gate import CERTAINTY, Gate, Kinds, load_gate, save_gate

RULE = ComponentRule(threshold=0.5, minimum_area_fraction=0.002, further_score=0.8)


def made_gate(threshold=2.0):
    random = np.random.default_rng(0)
    return Gate(
        random.normal(size=12).astype(np.float32), random.normal(size=(5, 12)).astype(np.float32), threshold
    )


def test_the_gate_accepts_the_centre_and_refuses_the_far():
    gate = made_gate()
    direction = gate.whitening[0] / np.linalg.norm(gate.whitening[0])
    steps = gate.centre + np.linspace(0, 50, 40, dtype=np.float32)[:, None] * direction
    distance = gate.distance(steps)
    assert distance[0] == pytest.approx(0, abs=1e-5)
    assert (np.diff(distance) > 0).all()
    accepted = gate.accepts(steps)
    assert accepted[0]
    assert not accepted[-1]
    assert np.array_equal(accepted, distance <= 2.0)


KINDS = Kinds(("noise", "phantom"), np.eye(2, 12, dtype=np.float32), np.zeros(2, np.float32))


@pytest.mark.parametrize("kinds", [None, KINDS])
def test_a_gate_comes_back_as_saved(tmp_path, kinds):
    gate = replace(made_gate(1.25), kinds=kinds)
    sha256 = save_gate(gate, tmp_path / "gate.npz")
    back = load_gate(tmp_path / "gate.npz", sha256)
    assert np.array_equal(back.centre, gate.centre)
    assert np.array_equal(back.whitening, gate.whitening)
    assert back.threshold == 1.25
    for features in np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32) * 4:
        assert back.kind(features) == gate.kind(features)


def test_another_gate_than_the_metadata_name_is_refused(tmp_path):
    sha256 = save_gate(made_gate(1.25), tmp_path / "gate.npz")
    save_gate(made_gate(1e9), tmp_path / "gate.npz")
    with pytest.raises(ModelError, match=r"gate\.npz cannot be used.*metadata.*reinstall"):
        load_gate(tmp_path / "gate.npz", sha256)


def test_a_kind_is_named_only_where_it_is_clear():
    def features(first, second):
        return np.array([first, second, *[0] * 10], np.float32)

    assert KINDS.name(features(3, 0)) == "noise"
    assert KINDS.name(features(0, 3)) == "phantom"
    sure = np.log(CERTAINTY / (1 - CERTAINTY))
    assert KINDS.name(features(sure + 0.01, 0)) == "noise"
    assert KINDS.name(features(sure - 0.01, 0)) is None
    assert made_gate().kind(features(3, 0)) is None


@pytest.mark.parametrize(
    "content",
    [None, b"not a gate", b"", b"PK\x03\x04 cut"],
)
def test_a_damaged_gate_is_refused(tmp_path, content):
    path = tmp_path / "gate.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"gate\.npz cannot be used"):
        load_gate(path)


def map_with(*blocks):
    probability = np.zeros((100, 100), np.float32)
    for top, left, side, value in blocks:
        probability[top : top + side, left : left + side] = value
    return probability


def test_an_empty_map_has_no_lesion():
    assert components(map_with(), RULE) == ()
    assert components(map_with((10, 10, 30, 0.5)), RULE) == ()


def test_the_heaviest_comes_first_and_further_ones_must_be_sure():
    found = components(map_with((5, 5, 20, 0.6), (60, 60, 30, 0.7), (5, 60, 10, 0.9)), RULE)
    assert [round(item.score, 2) for item in found] == [0.7, 0.9]
    assert found[0].mask[60:90, 60:90].all()
    assert found[0].mask.sum() == 900


def test_specks_are_dropped_and_holes_are_filled():
    probability = map_with((20, 20, 30, 0.9), (80, 80, 3, 0.99))
    probability[30:35, 30:35] = 0.0
    (lesion,) = components(probability, RULE)
    assert lesion.mask.sum() == 900
    assert lesion.score == pytest.approx(0.9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_lesions_are_disjoint_and_follow_the_rule(seed):
    random = np.random.default_rng(seed)
    coarse = random.random((8, 8)).astype(np.float32)
    probability = np.kron(coarse, np.ones((10, 10), np.float32))
    found = components(probability, RULE)
    assert bool(found) == bool((probability > 0.5).any())
    for item in found:
        assert item.mask.shape == probability.shape
        assert item.mask.sum() >= RULE.minimum_area_fraction * probability.size
        assert RULE.threshold < item.score <= 1
    assert all(item.score >= RULE.further_score for item in found[1:])


labelled = st.lists(
    st.tuples(st.floats(-8, 8, allow_subnormal=False), st.booleans()), min_size=2, max_size=60
).filter(lambda rows: len({label for _, label in rows}) == 2)


@settings(max_examples=80, deadline=None)
@given(labelled, st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_the_pair_holds_the_probability_and_rises_with_the_logit(rows, asked):
    calibration = make_calibration(*zip(*rows, strict=True))
    given_ = [calibration.probability(logit) for logit in sorted(asked)]
    for one in given_:
        assert 0 <= one.low <= one.value <= one.high <= 1
    for lower, higher in pairwise(given_):
        assert lower.low <= higher.low + 1e-12
        assert lower.value <= higher.value + 1e-12
        assert lower.high <= higher.high + 1e-12


@settings(max_examples=50, deadline=None)
@given(labelled, st.floats(-5, 5), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_another_prevalence_moves_the_odds_by_its_own(rows, logit, one, two):
    calibration = make_calibration(*zip(*rows, strict=True))
    same = calibration.probability(logit, calibration.prevalence)
    plain = calibration.probability(logit)
    assert (same.low, same.value, same.high) == pytest.approx((plain.low, plain.value, plain.high))
    few, many = sorted((one, two))
    assert calibration.probability(logit, few).value <= calibration.probability(logit, many).value + 1e-12
    moved = calibration.probability(logit, few)
    ratio = few / (1 - few) / (calibration.prevalence / (1 - calibration.prevalence))
    expected = plain.value * ratio / (plain.value * ratio + 1 - plain.value)
    assert moved.value == pytest.approx(expected)
    assert moved.low <= moved.value <= moved.high


def test_many_patients_give_a_narrow_and_true_pair():
    random = np.random.default_rng(2)
    logits = random.normal(0, 2, 4000)
    calibration = make_calibration(logits, random.random(4000) < 1 / (1 + np.exp(-logits)))
    for logit in (-2.0, 0.0, 2.0):
        given_ = calibration.probability(logit)
        assert given_.value == pytest.approx(1 / (1 + np.exp(-logit)), abs=0.08)
        assert given_.high - given_.low < 0.05


def test_what_calibrates_nothing_is_refused(tmp_path):
    for logits, labels in (([1, 2], [1, 1]), ([1, 2], [0, 0]), ([1], [0, 1]), ([], [])):
        with pytest.raises(ValueError, match="both classes"):
            make_calibration(logits, labels)
    path = tmp_path / "calibration.json"
    for text in ("", "{}", '{"logits": [1, 2], "malignant": [1, 1]}'):
        path.write_text(text)
        with pytest.raises(ModelError, match="reinstall"):
            load_calibration(path)
    path.write_text('{"logits": [2, 1], "malignant": [1, 0]}')
    assert load_calibration(path).logits.tolist() == [1, 2]
