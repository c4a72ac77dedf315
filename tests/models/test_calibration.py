"""How far the calibration's ceiling can be trusted: simulated data sets of the shipped one's size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.runtime.calibration import make_calibration

PATIENTS, RUNS = 850, 200


@pytest.mark.parametrize(
    ("share", "least"),
    [
        (lambda x: np.where(x < 0.5, 0.05, 0.05 + (x - 0.5) * 1.8), 0.85),  # flat: the hard case, near 0.90
        (lambda x: 0.01 + 0.9 * x, 0.97),
    ],
)
def test_the_ceiling_holds_at_the_lowest_logit(share: Callable[..., np.ndarray], least: float) -> None:
    random = np.random.default_rng(1)
    true = float(share(np.array([0.0]))[0])
    held = 0
    for _ in range(RUNS):
        logits = np.sort(random.uniform(size=PATIENTS))
        malignant = random.uniform(size=PATIENTS) < share(logits)
        held += make_calibration(logits, malignant).ceiling(0.0) >= true
    assert held / RUNS >= least
