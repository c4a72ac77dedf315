"""The nearest pairs within a set of pictures, and within the real one. No network, no torch.

Promises: pairs of one patient's pictures are no pairs; every pair of either set is kept that is as near as
the nearest thousandth of the real ones, so that whoever judges can compare sets of any equal size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

KEPT = 0.001  # share of the real pairs that is kept, by each way of comparing
LEAST = 20  # pairs, where there are few pictures
Distances = npt.NDArray[np.float32]


def twin_rows(
    made: Mapping[str, Distances],
    real: Mapping[str, Distances],
    names: Mapping[str, Sequence[str]],
    patients: Sequence[str],
) -> list[dict[str, Any]]:
    """The nearest pairs, a row each, with both distances.

    Parameters
    ----------
    made : by way of comparison, (m, m), of all generated pictures to each other; real : (n, n), likewise
    names : of the pictures, under "generated" and "real"
    patients : (n,) whose the real pictures are
    """
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    apart = np.triu(owner[:, None] != owner[None])
    limits = {way: _limit(distances[apart]) for way, distances in real.items()}
    other = np.triu(np.ones_like(next(iter(made.values())), bool), 1)
    return [
        *_rows("generated", made, other, limits, names["generated"]),
        *_rows("real", real, apart, limits, names["real"]),
    ]


def _limit(distances: Distances) -> float:
    """The distance of the last pair that is kept."""
    if not distances.size:
        return 0.0
    last = min(max(LEAST, int(np.ceil(KEPT * len(distances)))), len(distances)) - 1
    return float(np.partition(distances, last)[last])


def _rows(
    kind: str,
    distances: Mapping[str, Distances],
    pairs: npt.NDArray[np.bool_],
    limits: Mapping[str, float],
    names: Sequence[str],
) -> Iterator[dict[str, Any]]:
    near = pairs & np.any([own <= limits[way] for way, own in distances.items()], axis=0)
    for one, other in np.argwhere(near):
        found = {f"{way}_distance": float(own[one, other]) for way, own in distances.items()}
        yield {"kind": kind, "first": names[one], "second": names[other], **found}
