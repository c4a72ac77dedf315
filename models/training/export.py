"""From trained weights to an ONNX file that answers like the network it came from.

Promises: every export is compared with the network in eager mode before it is kept. Run in a process of
its own: the exporter keeps state between calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.runtime.onnx_runtime import OnnxRuntimeEngine

OPSET = 17
TOLERANCE = 1e-5  # of the output's range


class ExportError(RuntimeError):
    """The exported file answers otherwise than the network: it is not kept."""

    code = "export-differs"
    exit_status = 11


class LesionExport(torch.nn.Module):
    """`image` (n, 1, s, s) -> `lesion_probability` (n, 1, s, s), `features` (n, d), with the mirrored."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        logits, features = self.network(image)
        mirrored, mirrored_features = self.network(image.flip(3))
        probability = (logits.sigmoid() + mirrored.flip(3).sigmoid()) / 2
        return probability, (features + mirrored_features) / 2


class DiagnosisExport(torch.nn.Module):
    """`crop` (n, 2, s, s) -> `malignancy_logit` (n,), averaged with the mirrored crop."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, crop: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return (self.network(crop) + self.network(crop.flip(3))) / 2


def export(
    module: torch.nn.Module,
    example: torch.Tensor,
    inputs: Sequence[str],
    outputs: Sequence[str],
    path: Path,
    *,
    any_size: bool = False,
) -> str:
    """Write `path` with a free batch dimension, and free sides where `any_size`, and return its SHA-256.

    Raises
    ------
    ExportError
        ONNX Runtime and eager mode differ by more than the tolerance on random input.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    module = module.eval().to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        module,
        (example,),
        str(path),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes={
            name: {0: "batch", **({2: "rows", 3: "columns"} if any_size else {})}
            for name in (*inputs, *outputs)
        },
        opset_version=OPSET,
        dynamo=False,
    )
    generator = torch.Generator().manual_seed(1)
    rows, columns = example.shape[2:]
    probe = torch.rand((3, example.shape[1], rows * (1 + any_size), columns), generator=generator)
    with torch.no_grad():
        eager = module(probe)
    answers = OnnxRuntimeEngine(path, threads=1).run({inputs[0]: probe.numpy()})
    for name, expected in zip(outputs, eager if isinstance(eager, tuple) else (eager,), strict=True):
        reference, answer = expected.numpy(), answers[name]
        spread = max(float(np.ptp(reference)), 1e-6)
        difference = float(np.abs(reference - answer).max())
        if difference > TOLERANCE * spread and difference > 1e-5:
            path.unlink()
            raise ExportError(
                f"{path.name}: output {name} differs from eager mode by {difference:.2e}: export again"
            )
    return hashlib.sha256(path.read_bytes()).hexdigest()
