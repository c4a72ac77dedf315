"""The paper's configuration made small enough for tests: the same code, fewer and narrower layers."""

from __future__ import annotations

from dataclasses import replace

from models.generation.paper.network import NetworkSettings
from models.generation.paper.train import DEFAULTS, PaperSettings

SIDE = 16
NETWORK = NetworkSettings(base=16, multipliers=(1, 2), blocks=1, groups=8)


def small_settings(epochs: int = 2, batch_size: int = 4, dropout: float = 0.15) -> PaperSettings:
    """A run of seconds; the learning rate is raised, for the published one moves nothing in so few steps."""
    loop = replace(DEFAULTS, epochs=epochs, batch_size=batch_size, learning_rate=1e-3)
    return PaperSettings(loop, replace(NETWORK, dropout=dropout), SIDE)
