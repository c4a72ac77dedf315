"""Pictures from the published network: 50 evaluations of the solver under guidance, 100 of the network.

Promises: class and device drawn evenly, one box from the prior of the class, unless asked otherwise; the
same seed gives the same pictures on the same processor and versions.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from models.generation.paper.data import BENIGN, MALIGNANT, draw_boxes
from models.generation.paper.diffusion import EVALUATIONS, GUIDANCE_W, Predict, guided, solve
from models.generation.paper.network import PaperUNet
from models.generation.paper.run import PaperRun


@dataclass(frozen=True)
class Asked:
    """What a picture shall show: entries of class and device; boxes float32 (k, 4), several allowed."""

    kind: int
    device: int
    boxes: torch.Tensor


def draw_asked(run: PaperRun, count: int, seed: int) -> list[Asked]:
    """`count` conditions: class and device drawn evenly, a box from the class's prior."""
    random = np.random.default_rng(seed)
    entries = sorted(run.devices.values())
    return [
        Asked(
            kind=int(kind),
            device=int(random.choice(entries)),
            boxes=torch.from_numpy(run.priors[int(kind)].draw(1, int(random.integers(2**31)))),
        )
        for kind in random.choice([BENIGN, MALIGNANT], count)
    ]


def sample(
    network: PaperUNet,
    asked: Sequence[Asked],
    side: int,
    seed: int,
    w: float = GUIDANCE_W,
    evaluations: int = EVALUATIONS,
) -> torch.Tensor:
    """Pictures, float (n, 3, side, side) in 0..1; `w` is the publication's guidance scale (see diffusion)."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(asked), 3, side, side, generator=random).to(network.device)
    drawn = torch.stack([draw_boxes(one.boxes, side) for one in asked])
    labels = torch.tensor([[one.kind, one.device] for one in asked])
    pictures = solve(predictor(network, drawn, labels, w), noise, evaluations)
    return (pictures / 2 + 0.5).clamp(0, 1).cpu()


def predictor(network: PaperUNet, drawn: torch.Tensor, labels: torch.Tensor, w: float) -> Predict:
    """The network under guidance: asked with the condition, then with none, as published."""
    drawn, labels = drawn.to(network.device), labels.to(network.device)

    def predict(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        noisy, time = noisy.to(network.device), time.to(network.device)
        conditional = network(torch.cat([noisy, drawn], dim=1), time, labels).sample
        nothing = torch.cat([noisy, torch.zeros_like(drawn)], dim=1)
        unconditional = network(nothing, time, torch.zeros_like(labels)).sample
        return guided(conditional, unconditional, w)

    return predict


def write_samples(
    run: PaperRun, out: Path, count: int, seed: int, w: float = GUIDANCE_W, evaluations: int = EVALUATIONS
) -> None:
    """Draw `count` pictures into `out`: grey PNG named by seed, and samples.csv with what was asked of each.

    A picture depends on its own seed alone: class, device, box and noise.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = {entry: name for name, entry in run.devices.items()}
    with (out / "samples.csv").open("w", encoding="utf-8", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["seed", "picture", "malignant", "device", "left", "top", "right", "bottom"])
        for number in track(range(seed, seed + count), "drawing", console=Console(stderr=True)):
            (asked,) = draw_asked(run, 1, number)
            picture = sample(run.network, [asked], run.side, number, w, evaluations)[0].mean(0)
            name = f"{number}.png"
            Image.fromarray((picture * 255).round().byte().numpy()).save(out / name)
            box = [f"{share:.4f}" for share in asked.boxes[0].tolist()]
            table.writerow([number, name, int(asked.kind == MALIGNANT), names[asked.device], *box])
