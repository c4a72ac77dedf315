"""What an inference engine is to the rest of busmap, and the errors a model can raise.

Promises: an engine maps named float32 arrays to named float32 arrays, may be called from several
threads, and says exactly what it is. Refuses a model whose bytes are not those its metadata names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[np.float32]]


class ModelError(RuntimeError):
    """A model file is missing, changed or cannot be loaded. The message names the file and the remedy."""

    code = "model-unusable"
    exit_status = 5


@dataclass(frozen=True)
class EngineIdentity:
    """Name of engine and numeric precision, as written into reports: ("onnxruntime-cpu", "FP32")."""

    engine: str
    precision: str


class Engine(Protocol):
    """A loaded model, ready to run."""

    @property
    def identity(self) -> EngineIdentity:
        """Which engine and precision runs the model."""
        ...

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch. Names and shapes are those of the bundle's metadata (network_data_format)."""
        ...
