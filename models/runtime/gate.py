"""Is this frame like the breast ultrasound that the models learned from? A distance in their own features.

Promises: a frame farther from the training pictures than the threshold is said to be none of theirs. The
distance is Mahalanobis' after shrinkage (Lee et al. 2018, arXiv 1807.03888; Ledoit & Wolf 2004). It sees
what is far; it cannot vouch for what is near.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from models.runtime.engine import ModelError


@dataclass(frozen=True)
class Gate:
    """Centre (d,), whitening matrix (k, d) and threshold of the distance."""

    centre: npt.NDArray[np.float32]
    whitening: npt.NDArray[np.float32]
    threshold: float

    def distance(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Distances of features (n, d) from the training pictures: (n,), about 1 for a usual frame."""
        white = (features - self.centre) @ self.whitening.T
        return np.sqrt((white**2).mean(axis=1)).astype(np.float32)

    def accepts(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which of the frames, features (n, d), are near enough to be analysed: bool (n,)."""
        return self.distance(features) <= self.threshold


def load_gate(path: Path) -> Gate:
    """Read a gate written by `save_gate`.

    Raises
    ------
    ModelError
        The file is missing or not a gate.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Gate(arrays["centre"], arrays["whitening"], float(arrays["threshold"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"{path.name} cannot be used ({error}): reinstall the model bundle") from None


def save_gate(gate: Gate, path: Path) -> None:
    """Write a gate as plain arrays."""
    np.savez(path, centre=gate.centre, whitening=gate.whitening, threshold=np.float32(gate.threshold))
