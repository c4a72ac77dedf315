"""Names for what the gate refuses: a linear classifier of kinds on the features of the lesion network.

Promises: fitted on drawn pictures (`models.data.drawn`) and on the named photographs of scikit-image alone,
so that other photographs, tomography and other organs can be tested on. It never decides what is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage
from PIL import Image
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models.data.drawn import PAINTERS
from models.runtime.gate import Kinds
from models.runtime.lesion import LesionModel
from models.training.fit_gate import vary

DRAWN_EACH = 60  # half as drawn, half varied
PHOTOGRAPHS = (
    "astronaut.png", "camera.png", "chelsea.png", "grass.png", "gravel.png", "hubble_deep_field.jpg",
    "ihc.png", "moon.png", "motorcycle_right.png", "retina.jpg",
)  # fmt: skip
PHOTOGRAPH_COPIES = 12
_PHOTOGRAPH = "photograph"
_LARGEST_SIDE = 700
_PENALTY = 0.01


def fit_kinds(model: LesionModel, seed: int) -> Kinds:
    """The classifier for `model`'s features."""
    pictures = [*_drawn(seed), *_photographs(seed)]
    features = np.stack([model.find(grey).features for _, grey in track(pictures, "kinds")])
    labels = [name for name, _ in pictures]
    scaler = StandardScaler().fit(features)
    fitted = LogisticRegression(C=_PENALTY, max_iter=2000).fit(scaler.transform(features), labels)
    weights = fitted.coef_ / scaler.scale_
    bias = fitted.intercept_ - weights @ scaler.mean_
    return Kinds(
        tuple(str(name) for name in fitted.classes_), weights.astype(np.float32), bias.astype(np.float32)
    )


def _drawn(seed: int) -> list[tuple[str, npt.NDArray[np.uint8]]]:
    made = []
    for kind, paint in PAINTERS.items():
        for number in range(DRAWN_EACH):
            random = np.random.default_rng([seed, number])
            grey = paint(random)
            made.append((kind, vary(grey, random) if number % 2 else grey))
    return made


def _photographs(seed: int) -> list[tuple[str, npt.NDArray[np.uint8]]]:
    """Varied copies of the photographs in the installed scikit-image; nothing is downloaded."""
    folder = Path(skimage.__file__).with_name("data")
    made = []
    for name in PHOTOGRAPHS:
        with Image.open(folder / name) as picture:
            grey = picture.convert("L")
        grey.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
        random = np.random.default_rng(seed)
        made += [(_PHOTOGRAPH, vary(np.asarray(grey), random)) for _ in range(PHOTOGRAPH_COPIES)]
    return made
