"""The shortcut probe: can the class be told from the picture without its lesion?

Promises: the box of the lesion, grown by a fifth on each side, is filled with the mean grey of its rim
before any network sees the picture; the network is ImageNet's, frozen; the strength of the penalty is
chosen within the training pictures, whole patients apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from models.generation.kid import Embedder

Floats = npt.NDArray[np.float32]
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_GROWN = 0.2  # of the box's side, on each side
_RIM_PX = 2
_PARTS = 5


@dataclass(frozen=True)
class Backgrounds:
    """Features (n, d) of backgrounds, truth, whose they are (n,) and their weights (n,)."""

    features: Floats
    malignant: npt.NDArray[np.bool_]
    owners: Sequence[str]
    weight: npt.NDArray[np.float64]


def without_lesion(grey: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The picture with the lesion's grown box filled with the mean grey of the box's rim.

    Where the box leaves no rim in the picture, its own mean fills it.
    """
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(ys):
        return grey.copy()
    (top, bottom), (left, right) = (
        _grown(axis, size) for axis, size in zip((ys, xs), grey.shape, strict=True)
    )
    outer = np.zeros(grey.shape, bool)
    outer[max(0, top - _RIM_PX) : bottom + _RIM_PX, max(0, left - _RIM_PX) : right + _RIM_PX] = True
    outer[top:bottom, left:right] = False
    rim = grey[outer] if outer.any() else grey
    filled = grey.copy()
    filled[top:bottom, left:right] = round(float(rim.mean()))
    return filled


def _grown(axis: npt.NDArray[np.intp], size: int) -> tuple[int, int]:
    by = round(_GROWN * (axis[-1] + 1 - axis[0]))
    return max(0, int(axis[0]) - by), min(size, int(axis[-1]) + 1 + by)


def features_of(pictures: Sequence[npt.NDArray[np.uint8]], embed: Embedder) -> Floats:
    """ImageNet features (n, 1280) of pictures of one shape."""
    stacked = torch.from_numpy(np.stack(pictures))
    parts = [embed(part.float().unsqueeze(1) / 255).cpu() for part in stacked.split(256)]
    joined: Floats = torch.cat(parts).numpy()
    return joined


def fit_probe(backgrounds: Backgrounds, seed: int) -> tuple[Pipeline, float]:
    """The regression on all backgrounds, at the strength C (1 / penalty) that cross-validation chose."""
    owners = np.asarray(backgrounds.owners)
    parts = min(_PARTS, len(np.unique(owners)))
    folds = list(GroupKFold(parts, shuffle=True, random_state=seed).split(owners, groups=owners))
    areas = [np.mean([_area(backgrounds, strength, *fold) for fold in folds]) for strength in STRENGTHS]
    strength = STRENGTHS[int(np.argmax(areas))]
    return _fitted(backgrounds, strength, np.arange(len(owners))), strength


def _area(
    backgrounds: Backgrounds, strength: float, train: npt.NDArray[np.intp], test: npt.NDArray[np.intp]
) -> float:
    truth = backgrounds.malignant
    if len(np.unique(truth[train])) < 2 or len(np.unique(truth[test])) < 2:
        return 0.5
    model = _fitted(backgrounds, strength, train)
    return float(roc_auc_score(truth[test], model.decision_function(backgrounds.features[test])))


def _fitted(backgrounds: Backgrounds, strength: float, chosen: npt.NDArray[np.intp]) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    weight = backgrounds.weight[chosen] / backgrounds.weight[chosen].mean()
    return model.fit(
        backgrounds.features[chosen],
        backgrounds.malignant[chosen],
        logisticregression__sample_weight=weight,
    )
