"""The generator that ships against the published configuration: seconds an image, in one run on one machine.

Promises: both draw pictures of the same side on the same device and threads, which the figures name; the one
that ships is timed before and after the published one, so that a machine whose load drifts is fair to both.
Medians; nothing is assumed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from models.generation.draw import BATCH, Asked, draw_images, draw_row, usual_devices
from models.generation.flow import Solver
from models.generation.paper.network import NetworkSettings
from models.generation.paper.speed import FUSED, WHOLE_MAP, PaperTime, time_paper
from models.generation.product import Generator
from models.training.device import device_name, seconds_now

_BATCHES = 2  # timed before, and as many after


@dataclass(frozen=True)
class Comparison:
    """Times of both; `shipping_seconds`: of each batch, an image."""

    side: int
    device: str
    threads: int
    solver: Solver
    shipping_seconds: tuple[float, ...]
    paper: tuple[PaperTime, ...]

    @property
    def image_seconds(self) -> float:
        """Seconds an image of the generator that ships, drawn in batches."""
        return median(self.shipping_seconds)

    def times_faster(self, paper: PaperTime) -> float:
        """How many times faster the generator that ships is."""
        return paper.image_seconds / self.image_seconds

    def facts(self) -> dict[str, Any]:
        """All of it, for a file."""
        rows = [
            asdict(one) | {"image_seconds": one.image_seconds, "times_faster": self.times_faster(one)}
            for one in self.paper
        ]
        return asdict(self) | {"batch": BATCH, "image_seconds": self.image_seconds, "paper": rows}


def compare(
    generator: Generator, solver: Solver, side: int, network: NetworkSettings | None = None
) -> Comparison:
    """Time both at `side` px on the generator's device; the published one with either attention."""
    torch.set_flush_denormal(True)
    device = generator.device
    asked = Asked(devices=usual_devices(generator.facts))
    rows = [draw_row(generator, asked, solver, 1, index) for index in range(BATCH)]
    draw_images(generator, rows, solver)  # the first one prepares kernels

    def batch_seconds() -> float:
        begun = seconds_now(device)
        draw_images(generator, rows, solver)
        return (seconds_now(device) - begun) / BATCH

    before = [batch_seconds() for _ in range(_BATCHES)]
    paper = tuple(time_paper(side, device, attention, network) for attention in (FUSED, WHOLE_MAP))
    after = [batch_seconds() for _ in range(_BATCHES)]
    times = (*before, *after)
    return Comparison(side, device_name(device), torch.get_num_threads(), solver, times, paper)
