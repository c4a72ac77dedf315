"""Pairs of views: which are made, and that what tells them apart is found again."""

from __future__ import annotations

import numpy as np
import pytest

from operators.likeness import Appearance
from validation.statistics.roc import empirical_auc
from validation.views import OTHERS_A_PATIENT, Look, cross_validated, fit, pairs_of


def looks(patients: int, likeness: float) -> list[Look]:
    """Two looks a patient; `likeness` 1: their depths are the same, 0: they have nothing in common."""
    random = np.random.default_rng(3)
    made = []
    for number in range(patients):
        depth = random.uniform(0.2, 0.8)
        for side in "lr":
            own = likeness * depth + (1 - likeness) * random.uniform(0.2, 0.8)
            seen = Appearance((0.2, 0.2, own), None, *random.normal(0, 0.1, 3))
            made.append(Look(f"p{number:03d}", 1 + number % 4, f"device {number % 2}", side, seen))
    return made


def test_pairs_of_two_lesions_are_of_one_device_and_fold_and_of_two_patients():
    made = looks(40, 0.9)
    made.append(Look("only left", 1, "device 0", "l", made[0].appearance))
    pairs = pairs_of(made, seed=1)
    assert pairs.same.sum() == 40
    assert "only left" not in pairs.patient
    counts = np.unique(pairs.patient[~pairs.same], return_counts=True)[1]
    assert (counts == OTHERS_A_PATIENT).all()
    again = pairs_of(made, seed=1)
    assert np.array_equal(pairs.differences, again.differences)


def test_what_two_views_share_tells_them_from_others():
    pairs = pairs_of(looks(120, 0.95), seed=1)
    assert empirical_auc(cross_validated(pairs), pairs.same) > 0.9
    weights, _ = fit(pairs)
    assert weights[2] < -1, "the depth decides here"
    none = pairs_of(looks(120, 0.0), seed=1)
    assert empirical_auc(cross_validated(none), none.same) == pytest.approx(0.5, abs=0.1)
