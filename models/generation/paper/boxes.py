"""The published prior of lesion boxes: for each class three densities that know nothing of each other.

Promises: centre, height-to-width ratio and area of a box are drawn from Gaussian kernel densities of
bandwidth 0.001 over the training boxes. That is near to drawing training values again, in combinations
that may never have occurred: kept for comparison; what ships draws from a joint prior over masks.

Source: BUSGen, arXiv 2501.06869, and its released box sampler.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import KernelDensity

from models.data.record import DataError

BANDWIDTH = 0.001

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BoxPrior:
    """The three densities of one class, fitted."""

    centre: KernelDensity
    ratio: KernelDensity
    area: KernelDensity

    def draw(self, count: int, seed: int) -> Boxes:
        """`count` boxes, float32 (count, 4): left, top, right, bottom, in 0..1; what lies outside is cut."""
        random = np.random.RandomState(seed)  # what scikit-learn draws with
        centre = self.centre.sample(count, random)
        ratio = np.maximum(self.ratio.sample(count, random), BANDWIDTH)  # a kernel reaches below 0
        area = np.maximum(self.area.sample(count, random), BANDWIDTH**2)
        half = np.hstack([np.sqrt(area / ratio), np.sqrt(area * ratio)]) / 2
        return np.clip(np.hstack([centre - half, centre + half]), 0, 1).astype(np.float32)


def fit_box_prior(boxes: Boxes) -> BoxPrior:
    """The prior over the boxes (n, 4) of one class, shares of width and height.

    Raises
    ------
    DataError
        No box has an area.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    width, height = (high - low).T
    real = (width > 0) & (height > 0)
    if not real.any():
        raise DataError("no training picture of a class has a lesion box: train on pictures of both classes")
    width, height = width[real, None], height[real, None]
    return BoxPrior(
        centre=_density(((low + high) / 2)[real]),
        ratio=_density(height / width),
        area=_density(width * height),
    )


def _density(values: npt.NDArray[np.float32]) -> KernelDensity:
    return KernelDensity(bandwidth=BANDWIDTH, kernel="gaussian").fit(values)
