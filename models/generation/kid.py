"""Kernel inception distance on EfficientNet-Lite0's features, for choosing while training.

Promises: the unbiased estimate of the squared MMD with the cubic polynomial kernel. The features are
ImageNet's EfficientNet-Lite0, pooled, 1,280 wide: values do not compare with published KIDs.

Source: Binkowski et al. 2018 (arXiv:1801.01401).
"""

from __future__ import annotations

import torch

from models.generation import distances
from models.training.device import device_of
from models.training.encoder import Encoder

FEATURES = "EfficientNet-Lite0 (ImageNet); values compare with no published KID"


class Embedder:
    """The frozen ImageNet network, as a function from pictures to features."""

    def __init__(self, device: torch.device) -> None:
        self._network = Encoder().eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, grey: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 1, s, s) in 0..1, on any device -> features (n, 1280), on the network's."""
        network = self._network
        parts = (part.to(device_of(network)) for part in grey.split(32))
        return torch.cat([network.final(network(part)[-1]) for part in parts])


def kid(one: torch.Tensor, other: torch.Tensor) -> float:
    """KID of two sets of features, (n, d) and (m, d); may fall below zero for equal distributions."""
    return distances.kid(one.cpu().numpy(), other.cpu().numpy())
