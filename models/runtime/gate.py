"""Is this frame like the breast ultrasound that the models learned from? A distance in their own features.

Promises: a frame farther from the training pictures than the threshold is said to be none of theirs. The
distance is Mahalanobis' over all features after shrinkage (Lee et al. 2018, arXiv 1807.03888; Ledoit & Wolf
2004), fitted on breast ultrasound alone: nothing has to be known of what will be refused. What is refused is
given the name of the kind it looks most like, where that is clear; the name decides nothing.
The gate sees what is far; it cannot vouch for what is near.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from models.runtime.engine import ModelError

CERTAINTY = 0.7  # a kind less sure than this is not named


@dataclass(frozen=True)
class Kinds:
    """What a refused picture may show: k names, weights (k, d) and bias (k,) of a linear classifier."""

    names: tuple[str, ...]
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def name(self, features: npt.NDArray[np.float32]) -> str | None:
        """The kind that features (d,) look like; None where none is clear."""
        probability = softmax(self.weights @ features + self.bias)
        best = int(probability.argmax())
        return self.names[best] if probability[best] >= CERTAINTY else None


@dataclass(frozen=True)
class Gate:
    """Centre (d,), whitening matrix (k, d), threshold of the distance, and the kinds of what is refused."""

    centre: npt.NDArray[np.float32]
    whitening: npt.NDArray[np.float32]
    threshold: float
    kinds: Kinds | None = None

    def distance(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Distances of features (n, d) from the training pictures: (n,), about 1 for a usual frame."""
        white = (features - self.centre) @ self.whitening.T
        return np.sqrt((white**2).mean(axis=1)).astype(np.float32)

    def accepts(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which of the frames, features (n, d), are near enough to be analysed: bool (n,)."""
        return self.distance(features) <= self.threshold

    def kind(self, features: npt.NDArray[np.float32]) -> str | None:
        """What a refused frame, features (d,), looks like; None where that is not clear."""
        return self.kinds.name(features) if self.kinds is not None else None


def load_gate(path: Path, sha256: str | None = None) -> Gate:
    """Read a gate written by `save_gate`; with `sha256`, only if its bytes are those.

    Raises
    ------
    ModelError
        The file is missing, not a gate, or not the one asked for.
    """
    try:
        content = path.read_bytes()
        if sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise ValueError("its bytes are not the ones its metadata name")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            names = tuple(str(name) for name in arrays["kind_names"])
            kinds = Kinds(names, arrays["kind_weights"], arrays["kind_bias"]) if names else None
            return Gate(arrays["centre"], arrays["whitening"], float(arrays["threshold"]), kinds)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"{path.name} cannot be used ({error}): reinstall the model bundle") from None


def save_gate(gate: Gate, path: Path) -> str:
    """Write a gate as plain arrays and return the SHA-256 of the file."""
    kinds = gate.kinds or Kinds((), np.empty((0, 0), np.float32), np.empty(0, np.float32))
    stream = io.BytesIO()
    np.savez(
        stream,
        centre=gate.centre,
        whitening=gate.whitening,
        threshold=np.float32(gate.threshold),
        kind_names=np.array(kinds.names, dtype=np.str_),
        kind_weights=kinds.weights,
        kind_bias=kinds.bias,
    )
    path.write_bytes(stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()
