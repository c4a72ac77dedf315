"""A few examples: which ones are learned from, and which patients are left to judge by.

Promises: examples come patient by patient, both classes in turn, by the draw's number alone, of the last
patient only as many as make up the number; no patient of an example is among those left to judge by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final

import numpy as np

from models.data.record import DataError, Record
from models.generation.conditions import HISTOLOGY, NO_LESION, UNKNOWN, condition_of

SPECIAL: Final = "special carcinoma"
GROUPS: Final = tuple(name for name in HISTOLOGY if name not in (UNKNOWN, NO_LESION))


@dataclass(frozen=True)
class Few:
    """`examples` to learn from, and images of `other` patients of the same kind."""

    examples: tuple[Record, ...]
    other: tuple[Record, ...]


def of_kind(
    records: Sequence[Record], folds: Sequence[int], device: str | None, histology: str | None
) -> list[Record]:
    """The records of `folds` whose device holds `device` and whose histology is in the group `histology`.

    Raises
    ------
    DataError
        There are none, or there is no such group.
    """
    if histology and histology not in GROUPS:
        raise DataError(f"{histology!r} is no group of histology: {', '.join(GROUPS)}")
    chosen = [
        record
        for record in records
        if record.fold in folds
        and (not device or device.lower() in record.device.lower())
        and (not histology or condition_of(record).histology == histology)
    ]
    if not chosen:
        raise DataError(f"no image of folds {list(folds)} is of device {device}, histology {histology}")
    return chosen


def draw_few(records: Sequence[Record], k: int, draw: int) -> Few:
    """`k` images of `records`, by the number of the draw; patients of which images are taken are not judged.

    Raises
    ------
    DataError
        There are fewer than `k` images.
    """
    if not 0 < k <= len(records):
        raise DataError(f"{k} examples were asked for and {len(records)} are there: give another --k")
    by_patient: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda one: one.image_id):
        by_patient.setdefault(record.patient_id, []).append(record)
    order = [patient for pair in zip_longest(*_shuffled(by_patient, draw)) for patient in pair if patient]
    examples = list(chain.from_iterable(by_patient[patient] for patient in order))[:k]
    taken = {record.patient_id for record in examples}
    other = tuple(record for record in records if record.patient_id not in taken)
    return Few(tuple(examples), other)


def _shuffled(by_patient: Mapping[str, Sequence[Record]], draw: int) -> list[list[str]]:
    """Patients of each class, in an order of this draw's."""
    random = np.random.default_rng([draw, 11])
    classes = []
    for malignant in (False, True):
        own = sorted(patient for patient, images in by_patient.items() if images[0].malignant == malignant)
        classes.append([own[i] for i in random.permutation(len(own))])
    return classes
