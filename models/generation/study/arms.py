"""The arms of docs/protocol-generator.md, and the training sets that they stand for.

Promises: an arm differs from the others in its pictures alone; generated pictures are taken in the order of
their repository. Refuses a repository with too few pictures of lesions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from skimage.measure import label

from models.data.record import DataError, Record
from models.diagnosis.train import TrainingSet, patient_weights, wide_crop
from models.generation.draw import Row
from models.generation.repository import picture_paths, read_picture, read_rows, unmarked
from models.runtime.preprocess import suppress_marks
from models.segmentation.train import Squares, squares_of

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Arm:
    """What is trained on: the real pictures or not, and generated ones, `times` as many as the real ones."""

    name: str
    real: bool
    times: int


DIAGNOSIS: Final = (
    Arm("real", real=True, times=0),
    Arm("gen-1", real=False, times=1),
    Arm("gen-3", real=False, times=3),
    Arm("gen-10", real=False, times=10),
    Arm("both", real=True, times=3),
)
SEGMENTATION: Final = tuple(arm for arm in DIAGNOSIS if arm.name in ("real", "gen-3", "both"))


def lesion_rows(repository: Path, count: int) -> list[Row]:
    """The first `count` rows that show a lesion.

    Raises
    ------
    DataError
        There are fewer, or the repository holds no table.
    """
    rows = [row for row in read_rows(repository) if row.lesions > 0]
    if len(rows) < count:
        raise DataError(
            f"{repository} holds {len(rows)} pictures of lesions, {count} are needed: draw more with "
            f"busmap generator sample --out {repository}"
        )
    return rows[:count]


def generated(repository: Path, rows: Sequence[Row]) -> Iterator[tuple[Grey, Mask]]:
    """Pictures and outlines of rows, uint8 and bool (s, s); marks that were painted on are suppressed."""
    for row in rows:
        grey, mask = (read_picture(path) for path in picture_paths(repository, row.index))
        yield unmarked(grey, row), mask > 127


def real(records: Sequence[Record]) -> Iterator[tuple[Grey, Mask]]:
    """Pictures without marks and outlines of records."""
    for record in records:
        yield suppress_marks(record.grey()), record.mask()


def largest(mask: Mask) -> Mask:
    """The largest of the lesions in a mask."""
    parts = label(mask)
    sizes = np.bincount(parts.ravel())[1:]
    return parts == 1 + int(np.argmax(sizes))


def diagnosis_set(arm: Arm, records: Sequence[Record], repository: Path) -> TrainingSet:
    """Crops of an arm: real patients weigh the same, generated pictures too, both sources the same."""
    sets = []
    if arm.real:
        truth = torch.tensor([float(record.malignant) for record in records])
        crops = np.stack([wide_crop(*pair) for pair in real(records)])
        patients = [record.patient_id for record in records]
        sets.append(TrainingSet(torch.from_numpy(crops), truth, patient_weights(patients, truth)))
    if arm.times:
        rows = lesion_rows(repository, arm.times * len(records))
        truth = torch.tensor([float(row.lesion_class == "malignant") for row in rows])
        crops = np.stack([wide_crop(grey, largest(mask)) for grey, mask in generated(repository, rows)])
        images = [str(row.index) for row in rows]
        sets.append(TrainingSet(torch.from_numpy(crops), truth, patient_weights(images, truth)))
    return TrainingSet(
        torch.cat([part.crops for part in sets]),
        torch.cat([part.malignant for part in sets]),
        torch.cat([part.weight / part.weight.sum() for part in sets]),
    )


def segmentation_set(arm: Arm, records: Sequence[Record], repository: Path) -> tuple[Squares, torch.Tensor]:
    """Squares of an arm and how often each is drawn: alike within a source, both sources the same."""
    sets = []
    if arm.real:
        sets.append(squares_of(real(records)))
    if arm.times:
        rows = lesion_rows(repository, arm.times * len(records))
        sets.append(squares_of(generated(repository, rows)))
    squares = Squares(*(np.concatenate([getattr(part, key) for part in sets]) for key in ("grey", "mask")))
    weight = torch.cat([torch.full((len(part.grey),), 1 / len(part.grey)) for part in sets])
    return squares, weight
