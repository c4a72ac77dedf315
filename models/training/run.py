"""What a training run leaves behind beside its weights: the record of how it was made, and caches.

Promises: files appear whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data.whole import whole_file, write_whole


def cached(path: Path, make: Callable[[], Mapping[str, npt.NDArray[Any]]]) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays of `path`, made and kept there at the first call."""
    if not path.exists():
        write_arrays(path, make())
    with np.load(path) as arrays:
        return dict(arrays)


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name as .npz."""
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]


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
    path = folder / name
    content = json.dumps(facts, indent=1, default=str, sort_keys=True)
    if path.exists() and path.read_text(encoding="utf-8") != content:
        raise RunDiffersError(
            f"{folder} holds a run with other settings, data or code: give another --out or delete it"
        )
    write_whole(path, content)
