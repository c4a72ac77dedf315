"""Grids of pictures and learning curves of a run, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image

from models.data.whole import whole_file

mpl.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure


def save_grid(grey: torch.Tensor, path: Path, columns: int) -> None:
    """Pictures (n, 1, s, s) in 0..1, row by row; the last row is filled up with black."""
    pictures = (grey[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    rows = -(-len(pictures) // columns)
    filled = np.zeros((rows * columns, *pictures.shape[1:]), np.uint8)
    filled[: len(pictures)] = pictures
    side = pictures.shape[-1]
    sheet = (
        filled.reshape(rows, columns, side, side).transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
    )
    with whole_file(path) as unfinished:
        Image.fromarray(sheet).save(unfinished, "PNG", optimize=True)


def save_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Every figure of the history over the epochs, one panel each."""
    names = list(dict.fromkeys(name for row in history for name in row if name != "epoch"))
    figure, panels = pyplot.subplots(
        1, len(names), figsize=(4 * len(names), 3), layout="constrained", squeeze=False
    )
    for panel, name in zip(panels[0], names, strict=True):
        rows = [row for row in history if name in row]
        panel.plot([row["epoch"] for row in rows], [row[name] for row in rows], color="black")
        panel.set(xlabel="epoch", title=name.replace("_", " "))
    _write(figure, path)


def save_intervals(panels: Mapping[str, Sequence[tuple[float, float, float, float]]], path: Path) -> None:
    """A panel a quantity, its name below: place, value, low and high of each point."""
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4 * len(panels), 3), layout="constrained", squeeze=False, sharey=True
    )
    for axis, (name, points) in zip(axes[0], panels.items(), strict=True):
        place, value, low, high = np.array(points).T
        axis.errorbar(place, value, (value - low, high - value), fmt="o-", color="black", capsize=3)
        axis.set(xlabel=name, xticks=place)
    axes[0][0].set_ylabel("KID")
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=80, metadata={"Software": None})
    pyplot.close(figure)
