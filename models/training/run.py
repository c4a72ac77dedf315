"""What a training run leaves behind beside its weights: the record of how it was made, and caches.

Promises: files appear whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def cached(
    path: Path, make: Callable[[], Mapping[str, npt.NDArray[np.uint8]]]
) -> Mapping[str, npt.NDArray[np.uint8]]:
    """The arrays of `path`, made and kept there at the first call."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial.npz")
        np.savez(partial, **dict(make()))  # type: ignore[arg-type]
        partial.replace(path)
    with np.load(path) as arrays:
        return dict(arrays)


def write_run(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `facts` (settings, seed, data hash) to `folder/run.json`."""
    partial = folder / "run.json.partial"
    partial.write_text(json.dumps(facts, indent=1, default=str), encoding="utf-8")
    partial.replace(folder / "run.json")
