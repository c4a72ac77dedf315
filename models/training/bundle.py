"""The MONAI bundles that ship: weights as ONNX, metadata, calibration, gate.

Promises: metadata follow MONAI's bundle specification (network_data_format among them), carry the
SHA-256 of the weights, and say "research use" wherever a reader of the bundle would look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.data.whole import write_whole

_COMMON = {
    "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
    "monai_version": "1.6.1",
    "pytorch_version": "2.13.0",
    "numpy_version": "2.4",
    "authors": "the busmap maintainers",
    "copyright": "Copyright 2026 the busmap maintainers; Apache-2.0",
    "intended_use": "Research use, not a cleared device.",
    "data_source": "BUS-BRA, folds 1 to 4 (doi:10.5281/zenodo.8231412)",
    "data_type": "png",
    "references": ["Gomez-Flores et al., Medical Physics 2024;51(4):3110-3123, doi:10.1002/mp.16812"],
}


def tensor_format(
    channels: int, side: int, meaning: Mapping[int, str], value_range: tuple[float, float]
) -> Any:
    """One input or output of `network_data_format`."""
    return {
        "type": "image",
        "format": "magnitude",
        "modality": "US",
        "num_channels": channels,
        "spatial_shape": [side, side],
        "dtype": "float32",
        "value_range": list(value_range),
        "is_patch_data": False,
        "channel_def": {str(key): value for key, value in meaning.items()},
    }


def vector_format(length: int, meaning: str) -> Any:
    """A vector output of `network_data_format`."""
    return {
        "type": "tuples",
        "format": "features",
        "num_channels": length,
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {"0": meaning},
    }


def write_metadata(
    folder: Path, *, name: str, changelog: Mapping[str, str], task: str, data_format: Any, busmap: Any
) -> None:
    """Write `configs/metadata.json`; the version is the last of `changelog`.

    `busmap` is what the runtime needs and no MONAI key names.
    """
    metadata = {
        **_COMMON,
        "name": name,
        "version": list(changelog)[-1],
        "changelog": dict(changelog),
        "task": task,
        "description": f"{task}. Research use, not a cleared device.",
        "required_packages_version": {"onnxruntime": "1.31.1"},
        "network_data_format": data_format,
        "busmap": busmap,
    }
    _write(metadata, folder)


def replace_gate_facts(folder: Path, changelog: Mapping[str, str], facts: Mapping[str, Any]) -> None:
    """Enter another gate into a bundle's metadata; its weights stay, its version is `changelog`'s last."""
    path = folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["version"], metadata["changelog"] = list(changelog)[-1], dict(changelog)
    metadata["busmap"].update(facts)
    _write(metadata, folder)


def _write(metadata: Any, folder: Path) -> None:
    path = folder / "configs" / "metadata.json"
    write_whole(path, json.dumps(metadata, indent=1) + "\n")
