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


def cached(path: Path, make: Callable[[], Mapping[str, npt.NDArray[Any]]]) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays of `path`, made and kept there at the first call."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial.npz")
        np.savez(partial, **dict(make()))  # type: ignore[arg-type]
        partial.replace(path)
    with np.load(path) as arrays:
        return dict(arrays)


class RunDiffersError(ValueError):
    """A run folder belongs to another run. The message names the remedy."""

    code = "run-differs"
    exit_status = 12


def begin_run(folder: Path, facts: Mapping[str, Any], name: str = "run.json") -> None:
    """Write `facts` (settings with seed, data hash, held-out fold) to `folder/name`, before all else.

    Raises
    ------
    RunDiffersError
        The folder holds a run made from other facts: to resume it would mix the two.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    content = json.dumps(facts, indent=1, default=str, sort_keys=True)
    if path.exists() and path.read_text(encoding="utf-8") != content:
        raise RunDiffersError(
            f"{folder} holds a run with other settings, data or code: give another --out or delete it"
        )
    partial = path.with_suffix(f".{os.getpid()}.partial")  # several processes may begin one run
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)
