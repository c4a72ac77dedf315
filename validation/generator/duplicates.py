"""Duplicates within a set of generated pictures, against real pictures of different patients.

Promises: the larger a set, the nearer its nearest neighbours, so that equal numbers are compared: shares are
those expected of random sets of one size, and a real set shows every patient once. Both are taken at one
distance. Intervals come from halves of the patients and of the generated pictures (`over_halves`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from models.generation.halves import HALVES
from validation.generator.files import Columns
from validation.generator.report import Table
from validation.generator.shown import estimate
from validation.predictions import PredictionError
from validation.statistics.halves import over_halves
from validation.statistics.interval import Estimate, Flags, Floats

BASELINE = 0.01  # share of real pictures that are too near, by construction
NOTE = (
    "Duplicates: the larger a set, the nearer its nearest neighbours. So the shares are those expected of "
    "random sets of equal size, generated pictures against real ones that are each of another patient: with "
    "another picture of the set at least as near as 1% of the real ones have. Mean over random halves of the "
    "patients and of the generated pictures; interval: 1.96 times what a figure strays over them."
)
Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Duplicates:
    """Pictures that have another one nearer than 1% of real ones have, in sets of `size`.

    `excess`: the share of generated pictures less that of real ones of different patients at the same
    distance; `passed`: the lower bound of the excess is not above 0. Means over `halves`.
    """

    threshold: float
    size: int
    halves: int
    share: Estimate
    excess: Estimate
    passed: bool


@dataclass(frozen=True)
class _Pairs:
    """The nearest pairs of a set: places of both pictures and their distance, each (p,)."""

    one: Index
    other: Index
    distance: Floats

    def nearer(self, limit: float, inside: Flags) -> tuple[Index, Index]:
        """Pairs up to a distance with both pictures inside, each once from either side."""
        own = (self.distance <= limit) & inside[self.one] & inside[self.other]
        one, other = self.one[own], self.other[own]
        return np.concatenate([one, other]), np.concatenate([other, one])


def duplicates_of(
    rows: Columns, way: str, generated: int, patients: Mapping[str, str], seed: int
) -> Duplicates:
    """Shares in sets of equal size, at one distance by `way`.

    Parameters
    ----------
    rows : of twins.parquet; generated : how many pictures there are, named by their number
    patients : whose each real picture is

    Raises
    ------
    PredictionError
        A picture is not known, or there are too few pairs, patients or pictures.
    """
    _, owner = np.unique(list(patients.values()), return_inverse=True)
    made = _pairs(rows, way, "generated", {str(i): i for i in range(generated)})
    real = _pairs(rows, way, "real", {name: i for i, name in enumerate(patients)})
    people, random = int(owner.max()) + 1, np.random.default_rng([seed, 29])
    size = min(people, generated) // 2
    if size < 2:
        raise PredictionError(f"{people} patients and {generated} generated pictures: too few for duplicates")
    chosen = [_half(people, random)[owner] for _ in range(HALVES)]
    drawn = [_half(generated, random) for _ in range(HALVES)]

    def of_real(limit: float) -> Floats:
        return np.array([_share_of_real(real, limit, half, owner, size) for half in chosen])

    threshold = _threshold(np.unique(real.distance), of_real)
    share = np.array([_share_of_made(made, threshold, half, size) for half in drawn])
    excess = over_halves(share - of_real(threshold))
    return Duplicates(threshold, size, HALVES, over_halves(share), excess, excess.interval.low <= 0)


def _pairs(rows: Columns, way: str, kind: str, places: Mapping[str, int]) -> _Pairs:
    own = rows["kind"] == kind
    try:
        one, other = (
            np.array([places[name] for name in rows[key][own]], np.intp) for key in ("first", "second")
        )
    except KeyError as error:
        raise PredictionError(
            f"twins.parquet names a picture that is not known ({error}): run busmap generator privacy anew"
        ) from None
    return _Pairs(one, other, rows[f"{way}_distance"][own])


def _half(count: int, random: np.random.Generator) -> Flags:
    chosen = np.zeros(count, bool)
    chosen[random.choice(count, count // 2, replace=False)] = True
    return chosen


def _threshold(distances: Floats, of_real: Callable[[float], Floats]) -> float:
    """The least of these distances at which real pictures reach the baseline."""
    low, high = 0, len(distances) - 1
    if high < 0 or of_real(distances[high]).mean() < BASELINE:
        raise PredictionError("twins.parquet holds too few real pairs: run busmap generator privacy anew")
    while low < high:
        middle = (low + high) // 2
        if of_real(distances[middle]).mean() < BASELINE:
            low = middle + 1
        else:
            high = middle
    return float(distances[low])


def _share_of_made(pairs: _Pairs, limit: float, half: Flags, size: int) -> float:
    """Expected share, in random sets of `size` of the half, of pictures with a near one in the set."""
    one, _ = pairs.nearer(limit, half)
    near, count = np.bincount(one), int(half.sum())
    return float(stats.hypergeom.sf(0, count - 1, near, size - 1).sum() / count)


def _share_of_real(pairs: _Pairs, limit: float, half: Flags, owner: Index, size: int) -> float:
    """The same of sets that show each of `size` patients of the half once, by a picture drawn at random.

    `half` (n,): pictures of these patients. Patients are taken to be drawn one by one where fewer than the
    half are shown.
    """
    one, other = pairs.nearer(limit, half)
    pictures = np.bincount(owner)
    count = len(np.unique(owner[half]))
    shown = (size - 1) / (count - 1)
    each, near = np.unique(np.stack([one, owner[other]], 1), axis=0, return_counts=True)
    missed = np.ones(len(owner))
    np.multiply.at(missed, each[:, 0], 1 - shown * near / pictures[each[:, 1]])
    return float(((1 - missed) / pictures[owner]).sum() / count)


def duplicates_table(figures: Mapping[str, Duplicates]) -> Table:
    """A row for each way of comparing."""
    rows = [
        (
            f"by {way}s",
            estimate(one.share, 4),
            estimate(one.excess, 4),
            f"{one.threshold:.4f}",
            "passed" if one.passed else "missed",
        )
        for way, one in figures.items()
    ]
    first = next(iter(figures.values()))
    titles = (
        "duplicates",
        "share",
        "minus real ones of different patients",
        "threshold",
        "not above real",
    )
    caption = f"Duplicates in sets of {first.size} pictures (intervals over {first.halves} halves)"
    return Table(caption, titles, rows)
