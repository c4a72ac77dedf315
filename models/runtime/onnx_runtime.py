"""ONNX Runtime on the CPU: the engine that runs everywhere.

Promises: nothing is sent to the library's maker and no identifier of the machine is written (its telemetry
is on by default and latched at import: it is switched off before); FP32 and a fixed number of threads, so
the same input gives the same bytes on one machine. Several threads may call it. Refuses a file it cannot
load with a ModelError.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from models.runtime.engine import Arrays, EngineIdentity, ModelError

os.environ["ORT_DISABLE_TELEMETRY"] = os.environ["ORT_TELEMETRY_DISABLED"] = "1"  # both names are in use
import onnxruntime  # after the switch


class OnnxRuntimeEngine:
    """A model file in an ONNX Runtime session."""

    def __init__(self, weights: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Without it idle threads spin and take the cores from decoding and from the gateway.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                weights.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library raises classes of its own for a damaged file
            raise ModelError(
                f"{weights.name} cannot be loaded ({type(error).__name__}); reinstall the bundle"
            ) from None
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def identity(self) -> EngineIdentity:
        """ONNX Runtime on the CPU in single precision."""
        return EngineIdentity("onnxruntime-cpu", "FP32")

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[np.float32]]:
        """Run one batch."""
        results = self._session.run(self._outputs, dict(inputs))
        return dict(zip(self._outputs, cast("list[npt.NDArray[np.float32]]", results), strict=True))
