"""Distances between two sets of features: KID, FID, precision and recall. No network, no torch.

Promises: the unbiased estimate of the squared MMD with the cubic polynomial kernel; FID exactly, also where
there are fewer pictures than features (it then depends on their number: compare like numbers only).

Sources: Binkowski et al. 2018 (arXiv:1801.01401); Heusel et al. 2017 (arXiv:1706.08500); Kynkaanniemi et al.
2019 (arXiv:1904.06991).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def kid(one: Floats, other: Floats) -> float:
    """KID of two sets of features, (n, d) and (m, d); may fall below zero for equal distributions."""
    return kid_of_kernels(kernel(one, one), kernel(other, other), kernel(one, other))


def kernel(one: Floats, other: Floats) -> Floats:
    """The cubic polynomial kernel between sets of features, (n, d) and (m, d): (n, m)."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    values: Floats = (one @ other.T / one.shape[1] + 1) ** 3
    return values


def kid_of_kernels(one: Floats, other: Floats, between: Floats) -> float:
    """KID of two sets from the kernel within each, (n, n) and (m, m), and between them, (n, m).

    Of parts of the sets it follows from parts of the kernels, which are the dear part.
    """
    return float(_off_diagonal_mean(one) + _off_diagonal_mean(other) - 2 * between.mean())


def fid(one: Floats, other: Floats) -> float:
    """Frechet distance of the Gaussians with the means and covariances of two sets, (n, d) and (m, d).

    The trace of the root of the product of both covariances is the sum of the singular values of the
    product of both centred sets, over the roots of n - 1 and m - 1; their triangular factors stand for them.
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    mean = np.square(one.mean(0) - other.mean(0)).sum()
    first, second = (part - part.mean(0) for part in (one, other))
    first, second = first / np.sqrt(len(first) - 1), second / np.sqrt(len(second) - 1)
    roots = [np.asarray(np.linalg.qr(part, mode="r")) for part in (first, second)]
    cross = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(mean + np.square(first).sum() + np.square(second).sum() - 2 * cross)


def precision_recall(real: Floats, made: Floats, k: int = 3) -> tuple[float, float]:
    """Share of made pictures inside the real set's neighbourhoods, and of real ones inside the made set's.

    A neighbourhood reaches from a picture to the `k`-th nearest other one of its set.
    """
    between = _distances(made, real)
    precision = (between <= _radii(real, k)[None]).any(1).mean()
    recall = (_radii(made, k)[None] >= between.T).any(1).mean()
    return float(precision), float(recall)


def _radii(features: Floats, k: int) -> Floats:
    within = _distances(features, features)
    np.fill_diagonal(within, 0)
    return np.partition(within, k, axis=1)[:, k]


def _distances(one: Floats, other: Floats) -> Floats:
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    squares = np.square(one).sum(1)[:, None] + np.square(other).sum(1)[None] - 2 * one @ other.T
    return np.maximum(squares, 0)


def _off_diagonal_mean(values: Floats) -> float:
    count = len(values)
    return float((values.sum() - np.trace(values)) / (count * (count - 1)))
