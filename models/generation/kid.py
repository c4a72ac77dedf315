"""Kernel inception distance on EfficientNet-Lite0's features, for choosing while training.

Promises: the unbiased estimate of the squared MMD with the cubic polynomial kernel. The features are
ImageNet's EfficientNet-Lite0, pooled, 1,280 wide: values do not compare with published KIDs.

Source: Binkowski et al. 2018 (arXiv:1801.01401).
"""

from __future__ import annotations

import torch

from models.training.encoder import Encoder


class Embedder:
    """The frozen ImageNet network, as a function from pictures to features."""

    def __init__(self, device: torch.device) -> None:
        self._network = Encoder().eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, grey: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 1, s, s) in 0..1 -> features (n, 1280)."""
        network = self._network
        return torch.cat([network.final(network(part)[-1]) for part in grey.split(32)])


def kid(one: torch.Tensor, other: torch.Tensor) -> float:
    """KID of two sets of features, (n, d) and (m, d); may fall below zero for equal distributions."""
    one, other = one.double(), other.double()
    within = [_off_diagonal_mean(_kernel(part, part)) for part in (one, other)]
    return float(sum(within) - 2 * _kernel(one, other).mean())


def _kernel(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one @ other.T / one.shape[1] + 1) ** 3


def _off_diagonal_mean(kernel: torch.Tensor) -> torch.Tensor:
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
