"""How well views of one lesion are told from views of different lesions, on pairs of BUS-BRA pictures.

Promises: the left and right picture of a patient are a pair of one lesion; a left picture and the right one
of another patient of the same device and fold are a pair of two. Lesions are found by the shipped models and
compared by the product's own functions. Folds 1-4 alone. What it cannot show: two lesions of one patient,
which BUS-BRA does not hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from models.data.record import Record
from models.runtime.lesion import LesionModel
from operators.likeness import Appearance, appearance, differences
from operators.study import Region

OTHERS_A_PATIENT = 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """The lesion found on one picture of a patient; `side`: "l" or "r", the picture's place."""

    patient_id: str
    fold: int
    device: str
    side: str
    appearance: Appearance


@dataclass(frozen=True)
class Pairs:
    """Differences (n, 6) of pairs; whether each is of one lesion, fold and patient of its left view, (n,)."""

    differences: Floats
    same: npt.NDArray[np.bool_]
    fold: npt.NDArray[np.int64]
    patient: npt.NDArray[np.str_]

    def only(self, chosen: npt.NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.differences[chosen], self.same[chosen], self.fold[chosen], self.patient[chosen])


def looks_of(records: Iterable[Record], model: LesionModel) -> Iterator[Look]:
    """The weightiest lesion of each left or right picture on which one is found."""
    for record in records:
        side = record.image_id[-1]
        if side not in "lr" or record.fold is None:
            continue
        found = model.find(record.grey())
        if found.familiar and found.lesions:
            rows, columns = found.clean.shape
            look = appearance(found.clean, found.lesions[0].mask, Region(0, 0, columns - 1, rows - 1))
            yield Look(record.patient_id, record.fold, record.device, side, look)


def pairs_of(looks: Sequence[Look], seed: int) -> Pairs:
    """All pairs of one lesion, and for each patient up to five with another one's lesion."""
    random = np.random.default_rng(seed)
    by_patient: dict[str, dict[str, Look]] = defaultdict(dict)
    for one in looks:
        by_patient[one.patient_id][one.side] = one
    both = {patient: views for patient, views in sorted(by_patient.items()) if len(views) == 2}
    rows: list[tuple[Floats, bool, int, str]] = []
    for patient, views in both.items():
        left = views["l"]
        right = [(views["r"], True), *((both[one]["r"], False) for one in _others(both, patient, random))]
        rows += [
            (differences(left.appearance, one.appearance), same, left.fold, patient) for one, same in right
        ]
    values, same, fold, patients = zip(*rows, strict=True)
    return Pairs(np.array(values), np.array(same), np.array(fold), np.array(patients))


def _others(
    both: Mapping[str, Mapping[str, Look]], patient: str, random: np.random.Generator
) -> Sequence[str]:
    here = both[patient]["l"]
    alike = [
        other
        for other, views in both.items()
        if other != patient and (views["l"].fold, views["l"].device) == (here.fold, here.device)
    ]
    return [str(one) for one in random.permutation(alike)[:OTHERS_A_PATIENT]]


def fit(pairs: Pairs) -> tuple[Floats, float]:
    """Weights (6,) and intercept of the log odds, both kinds of pairs weighing the same."""
    model = LogisticRegression(C=10, max_iter=1000, class_weight="balanced")
    model.fit(pairs.differences, pairs.same)
    return np.asarray(model.coef_[0]), float(model.intercept_[0])


def cross_validated(pairs: Pairs) -> Floats:
    """Scores (n,) of each fold's pairs by weights fitted on the other folds."""
    scores = np.zeros(len(pairs.same))
    for fold in np.unique(pairs.fold):
        held = pairs.fold == fold
        weights, intercept = fit(pairs.only(~held))
        scores[held] = pairs.differences[held] @ weights + intercept
    return scores
