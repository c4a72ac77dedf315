"""Reliability of the Venn-Abers pair: nobody judges itself, bins count everybody, the report shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.prediction import Prediction
from models.runtime.calibration import make_calibration
from tests.validation.made_predictions import made_rows
from validation.figures import judge
from validation.predictions import read_predictions
from validation.reliability import cross_fitted_pairs, pair_bins
from validation.report import Run, write_report

SHIPPED = Path(__file__).parents[2] / "validation" / "predictions" / "oof-busbra.parquet"


def rows_of(patients: list[tuple[int, bool, float]]) -> list[Prediction]:
    """One image a patient: fold, truth, logit."""
    row = replace(made_rows()[0], found=True, abstained=False, lesions=1, has_lesion=True)
    return [
        replace(row, image_id=str(n), patient_id=str(n), fold=fold, malignant=malignant, logit=logit)
        for n, (fold, malignant, logit) in enumerate(patients)
    ]


def test_a_patient_is_calibrated_by_the_other_folds_alone() -> None:
    patients = [(1, True, 2.0), (1, False, 1.0), (2, False, -1.0), (2, True, 0.5), (2, False, 0.0)]
    pairs = cross_fitted_pairs(rows_of(patients))
    other = make_calibration([-1.0, 0.5, 0.0], [False, True, False])
    assert pairs[:2] == [(other.probability(2.0), True), (other.probability(1.0), False)]
    assert len(pairs) == len(patients)


def test_rows_of_one_fold_have_no_pairs() -> None:
    assert pair_bins(rows_of([(5, True, 1.0), (5, False, 0.0)])) == ()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.floats(-5, 5)), min_size=8, max_size=80),
    st.integers(1, 12),
)
def test_bins_hold_every_patient_once_and_rise(patients: list[tuple[int, bool, float]], count: int) -> None:
    rows = rows_of(patients)
    pairs, bins = cross_fitted_pairs(rows), pair_bins(rows, count)
    assert sum(item.count for item in bins) == len(pairs)
    assert sum(item.malignant for item in bins) == sum(malignant for _, malignant in pairs)
    stated = [item.stated for item in bins]
    assert stated == sorted(stated)
    assert all(item.low <= item.stated <= item.high for item in bins)


def test_pairs_of_drawn_patients_cover_the_truth() -> None:
    """Patients drawn from a known curve: in nearly every bin the pair and Wilson's interval must meet."""
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 2, 3000)
    truth = generator.random(3000) < 1 / (1 + np.exp(-logits))
    rows = rows_of([(n % 4 + 1, bool(truth[n]), float(logits[n])) for n in range(3000)])
    assert sum(item.covered for item in pair_bins(rows)) >= 9


def test_the_report_shows_the_bins_of_the_shipped_predictions(tmp_path: Path) -> None:
    rows = read_predictions(SHIPPED)
    judgement = judge("oof", rows, None, resamples=100)
    found = {row.patient_id for row in rows if row.found}
    assert sum(item.count for item in judgement.pairs) == len(found)
    page, figures = write_report(Run([(judgement, rows)], None, 100, 1), tmp_path)
    assert "Reliability of the Venn-Abers pair" in page.read_text()
    assert "Venn-Abers pairs, oof" in page.read_text()
    assert '"pairs": [' in figures.read_text()
    for item in judgement.pairs:
        assert f"{item.malignant} of {item.count}" in page.read_text()
        assert item.observed == pytest.approx(item.malignant / item.count)
