"""From a map of lesion probability to lesions: connected components, ranked.

Promises: training, evaluation and product cut lesions out of a map by this one function. Refuses nothing:
a map without a lesion gives an empty tuple.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage


@dataclass(frozen=True)
class ComponentRule:
    """What counts as a lesion on one frame.

    `threshold` on the probability of a pixel; `minimum_area_fraction` of the region's area;
    `further_score`: mean probability that a second and later lesion on one frame must reach.
    """

    threshold: float
    minimum_area_fraction: float
    further_score: float


@dataclass(frozen=True)
class Component:
    """One lesion on one frame: its mask, bool (rows, columns), and the mean probability inside."""

    mask: npt.NDArray[np.bool_]
    score: float


def components(probability: npt.NDArray[np.float32], rule: ComponentRule) -> tuple[Component, ...]:
    """Lesions of a map, float32 (rows, columns) in 0..1; the one with most probability mass first."""
    labels, count = ndimage.label(probability > rule.threshold)
    if not count:
        return ()
    found = []
    for index in range(1, count + 1):
        mask = labels == index
        if mask.sum() >= rule.minimum_area_fraction * mask.size:
            filled = ndimage.binary_fill_holes(mask)
            found.append(Component(filled, float(probability[mask].mean())))
    found.sort(key=lambda item: (-item.score * float(item.mask.sum()), item.score))
    return tuple(item for rank, item in enumerate(found) if rank == 0 or item.score >= rule.further_score)
