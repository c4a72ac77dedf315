"""Does the Venn-Abers pair mean what it says: the share malignant, bin by bin, against the pair itself.

Promises: nobody judges itself. Each patient's pair comes from a calibration on the patients of the other
folds, as the product's own is made (mean logit of a patient, patients with a finding). Bins hold equal
numbers of patients. Refuses nothing: rows of a single fold have no such bins.

Source: Vovk & Petej, UAI 2014; Wilson, JASA 1927;22:209-212.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.data.prediction import Prediction
from models.runtime.calibration import Probability, make_calibration
from validation.statistics.interval import Interval
from validation.statistics.proportions import wilson


@dataclass(frozen=True)
class PairBin:
    """Patients of similar probability: means of the pair and of the probability, and the share malignant.

    `interval` is Wilson's of the share, `malignant` of `count` patients. `covered`: the pair's means and that
    interval meet.
    """

    low: float
    stated: float
    high: float
    malignant: int
    count: int
    observed: float
    interval: Interval
    covered: bool


def pair_bins(rows: Sequence[Prediction], count: int = 10) -> tuple[PairBin, ...]:
    """At most `count` bins, lowest first; none where the rows are of fewer than two folds."""
    pairs = cross_fitted_pairs(rows)
    if not pairs:
        return ()
    pairs.sort(key=lambda one: (one[0].value, one[1]))
    bins = []
    for part in np.array_split(np.arange(len(pairs)), min(count, len(pairs))):
        chosen = [pairs[index] for index in part]
        low, stated, high = (
            float(np.mean([getattr(pair, name) for pair, _ in chosen])) for name in ("low", "value", "high")
        )
        share = wilson(sum(malignant for _, malignant in chosen), len(chosen))
        bins.append(
            PairBin(
                low=low,
                stated=stated,
                high=high,
                malignant=share.count,
                count=share.total,
                observed=share.value,
                interval=share.interval,
                covered=share.interval.low <= high and low <= share.interval.high,
            )
        )
    return tuple(bins)


def cross_fitted_pairs(rows: Sequence[Prediction]) -> list[tuple[Probability, bool]]:
    """Pair and truth of each patient with a finding, calibrated on the other folds; empty for one fold."""
    logits: dict[tuple[str, int, bool], list[float]] = {}
    for row in rows:
        if row.found and row.logit is not None:
            logits.setdefault((row.patient_id, row.fold, row.malignant), []).append(row.logit)
    patients = [(fold, malignant, float(np.mean(seen))) for (_, fold, malignant), seen in logits.items()]
    pairs: list[tuple[Probability, bool]] = []
    for held in sorted({fold for fold, _, _ in patients}):
        others = [(logit, malignant) for fold, malignant, logit in patients if fold != held]
        if len({malignant for _, malignant in others}) < 2:
            return []
        calibration = make_calibration([one[0] for one in others], [one[1] for one in others])
        pairs += [
            (calibration.probability(logit), malignant) for fold, malignant, logit in patients if fold == held
        ]
    return pairs
