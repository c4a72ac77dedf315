"""Which frames a training draws, and how often.

Promises: whole patients are set aside for validation; every patient of a class and device weighs the
same, rare devices and classes more than their share but not as much as common ones; lesion-free tissue
makes up a fixed share. Draws come from torch's seed alone and are alike in every process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.data.record import Record
from models.generation.conditions import CLASSES, NO_LESION
from models.generation.frames import FrameSet

TISSUE_SHARE = 0.15
_VALIDATION_SHARE = 1 / 5  # of the patients (docs/protocol-generator.md)
_TEMPER = 0.5  # 1: every cell of class and device weighs the same; 0: as many as there are


@dataclass(frozen=True)
class Pool:
    """Frames as tensors and the probability of each to be drawn.

    grey, mask : uint8 (n, 1, 128, 128); marks : uint8 (n, 1, 16, 16); labels : int64 (n, 4);
    zoom : float32 (n,); weight : float64 (n,), sums to 1
    """

    grey: torch.Tensor
    mask: torch.Tensor
    marks: torch.Tensor
    labels: torch.Tensor
    zoom: torch.Tensor
    weight: torch.Tensor

    def __len__(self) -> int:
        return len(self.grey)

    def draw(self, count: int) -> torch.Tensor:
        """Indices of `count` frames, with replacement."""
        return torch.multinomial(self.weight, count, replacement=True)


def validation_patients(records: Sequence[Record], seed: int) -> frozenset[str]:
    """The patients set aside, one in five; at least one."""
    patients = sorted({record.patient_id for record in records})
    order = np.random.default_rng([seed, 7]).permutation(len(patients))
    return frozenset(patients[i] for i in order[: max(1, round(len(patients) * _VALIDATION_SHARE))])


def pools(records: Sequence[Record], frames: FrameSet, seed: int) -> tuple[Pool, Pool]:
    """The frames to train on, and those of the validation patients."""
    aside = validation_patients(records, seed)
    patients = [record.patient_id for record in records]
    held = np.array([patients[i] in aside for i in frames.source])
    return _pool(patients, frames, ~held), _pool(patients, frames, held)


def whole_pool(patients: Sequence[str], frames: FrameSet) -> Pool:
    """All frames. `patients`: whose each picture (`frames.source`) is."""
    return _pool(patients, frames, np.ones(len(frames.source), bool))


def _pool(patients: Sequence[str], frames: FrameSet, chosen: npt.NDArray[np.bool_]) -> Pool:
    keep = np.flatnonzero(chosen)
    tissue = frames.labels[keep, 0] == CLASSES.index(NO_LESION)
    cells = [(*frames.labels[i, :2], patients[frames.source[i]]) for i in keep]
    views = Counter(cells)
    seen = Counter((lesion, device) for lesion, device, _ in views)
    weight = np.array([seen[cell[:2]] ** -_TEMPER / views[cell] for cell in cells])
    for part, share in ((tissue, TISSUE_SHARE), (~tissue, 1 - TISSUE_SHARE)):
        if part.any():
            weight[part] *= share / weight[part].sum()
    return Pool(
        torch.from_numpy(frames.grey[keep]).unsqueeze(1),
        torch.from_numpy(frames.mask[keep]).unsqueeze(1),
        torch.from_numpy(frames.marks[keep]).unsqueeze(1),
        torch.from_numpy(frames.labels[keep]),
        torch.from_numpy(frames.zoom[keep]),
        torch.from_numpy(weight / weight.sum()),
    )
