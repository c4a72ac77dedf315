"""Choosing guidance and steps of a product by KID, on the patients that it set aside.

Promises: no picture learned from and none of the other half has a say; every setting draws the same
pictures (mask, class, device, BI-RADS, histology and zoom of the frames compared with, no marks, the same
noise), so that settings differ in nothing else. Kept setting by setting: a killed run goes on.

The rule: guidance with the least KID at the steps given; then, at that guidance, the fewest steps that are
not worse than the best, that is the interval of whose difference to it reaches 0.

The interval of a KID, and of a difference, is that of `halves.py`: over random halves of the patients.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from models.data.facts import Facts, read_facts
from models.data.record import DataError
from models.data.whole import write_whole
from models.generation.autoencoder import SCALE
from models.generation.conditions import MOST_GUIDANCE, MOST_STEPS
from models.generation.distances import kid
from models.generation.draw import BATCH, image_seed, solved
from models.generation.flow import Request, Solver
from models.generation.frames import FrameSet
from models.generation.halves import HALVES, half_interval, patient_halves
from models.generation.kid import FEATURES, Embedder
from models.generation.pictures import save_grid, save_intervals
from models.generation.product import Generator
from models.generation.study.privacy import Half
from models.generation.study.probe import features_of
from models.training.run import begin_run, cached

FILE: Final = "tune.json"
_SHOWN = 8  # pictures of each setting in the grid
Floats = npt.NDArray[np.float64]


class _Solver(Facts):
    steps: int = Field(ge=1, le=MOST_STEPS)
    guidance: float = Field(ge=0, le=MOST_GUIDANCE)
    interval: tuple[float, float]


class _Choice(Facts):
    model: str
    solver: _Solver


@dataclass(frozen=True)
class Grid:
    """What is tried: every guidance at the steps `at`, then every number of steps at the best of them."""

    guidance: tuple[float, ...] = (1.0, 1.25, 1.5, 2.0, 2.5)
    steps: tuple[int, ...] = (8, 12, 24)
    at: int = 12


@dataclass(frozen=True)
class Tried:
    """A setting: KID over all, over each half (h,), and the pictures that are shown, uint8 (8, s, s)."""

    solver: Solver
    kid: float
    by_half: Floats
    shown: npt.NDArray[np.uint8]


def tune(
    generator: Generator,
    learned: Half,
    out: Path,
    grid: Grid,
    count: int,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> Solver:
    """Choose into `out`/tune.json; returns the choice. `count`: pictures of each setting.

    Raises
    ------
    RunDiffersError
        `out` holds a choice for another product, or with other pictures or seed.
    DataError
        Fewer than two patients were set aside.
    """
    chosen = frames_aside(learned, count)
    patients = learned.owners(chosen)
    about = {
        "model": generator.digest,
        "adapter": generator.adapter,
        "pictures": len(chosen),
        "patients": len(set(patients)),
        "seed": seed,
        "asked": "as the validation frames compared with, without marks",
        "features": FEATURES,
    }
    begin_run(out, about, "run.json")
    frames, embed = learned.frames, Embedder(generator.device)
    real = features_of(list(frames.grey[chosen]), embed)
    halves = patient_halves(patients, np.random.default_rng([seed, 17]))

    def tried(solver: Solver) -> Tried:
        path = out / "drawn" / f"guidance-{solver.guidance:g}-steps-{solver.steps}.npz"
        kept = cached(path, lambda: _drawn(generator, frames, chosen, solver, seed, embed))
        made = kept["features"]
        values = np.array([kid(real[half], made[half]) for half in halves])
        one = Tried(solver, kid(real, made), values, kept["pictures"][:_SHOWN])
        say(f"guidance {solver.guidance:g}, {solver.steps} steps: KID {_shown(one)}")
        return one

    by_guidance = [tried(Solver(grid.at, guidance)) for guidance in grid.guidance]
    best = min(by_guidance, key=lambda one: one.kid).solver.guidance
    by_steps = [tried(Solver(steps, best)) for steps in grid.steps]
    choice = fewest_steps(by_steps)
    _write(out, about, by_guidance, by_steps, choice)
    return choice.solver


def fewest_steps(tried: Sequence[Tried]) -> Tried:
    """The fewest steps whose difference to the least KID is not told from 0."""
    least = min(tried, key=lambda one: one.kid)
    alike = [one for one in tried if _beside(one, least)[0] <= 0]
    return min(alike, key=lambda one: one.solver.steps)


def chosen_solver(path: Path, model: str) -> Solver:
    """The choice that a tune.json holds for the model with this SHA-256.

    Raises
    ------
    DataError
        It cannot be read, or was made for another model.
    """
    content = read_facts(path, _Choice, "give the tune.json of busmap generator tune")
    made_for, own = content["model"], content["solver"]
    if made_for != model:
        raise DataError(
            f"{path} was chosen for the generator {made_for[:12]}, not for {model[:12]}: "
            "choose anew with busmap generator tune, or give --steps and --guidance"
        )
    return Solver(own["steps"], own["guidance"], tuple(own["interval"]))


def frames_aside(learned: Half, count: int) -> npt.NDArray[np.int64]:
    """Up to `count` frames of the patients set aside, spread evenly over them all.

    Raises
    ------
    DataError
        They are fewer than two patients.
    """
    aside = np.setdiff1d(np.arange(len(learned.frames.source)), learned.learned_from())
    places = np.linspace(0, len(aside) - 1, min(count, len(aside))).round().astype(np.int64)
    frames: npt.NDArray[np.int64] = aside[places]
    if len(set(learned.owners(frames))) < 2:
        raise DataError("fewer than two patients were set aside: nothing can be judged on so few")
    return frames


def _drawn(
    generator: Generator,
    frames: FrameSet,
    chosen: npt.NDArray[np.int64],
    solver: Solver,
    seed: int,
    embed: Embedder,
) -> Mapping[str, npt.NDArray[Any]]:
    """Pictures and features of one setting."""
    parts = []
    for start in range(0, len(chosen), BATCH):
        own = chosen[start : start + BATCH]
        seeds = [image_seed(seed, start + i) for i in range(len(own))]
        parts.append(solved(generator, _request(frames, own), seeds, solver))
    pictures = np.concatenate(parts)
    return {"pictures": pictures, "features": features_of(list(pictures), embed)}


def _request(frames: FrameSet, chosen: npt.NDArray[np.int64]) -> Request:
    """What frames show, without marks: as `sample` asks."""
    side = frames.grey.shape[-1] // SCALE
    return Request(
        torch.from_numpy(frames.mask[chosen]).float().unsqueeze(1),
        torch.zeros(len(chosen), 1, side, side),
        torch.from_numpy(frames.labels[chosen]),
        torch.from_numpy(frames.zoom[chosen]),
        torch.ones(len(chosen), 3),
    )


def _beside(one: Tried, other: Tried) -> tuple[float, float]:
    """Interval of the difference of two settings, on the same halves."""
    return half_interval(one.kid - other.kid, one.by_half - other.by_half)


def _shown(one: Tried) -> str:
    low, high = half_interval(one.kid, one.by_half)
    return f"{one.kid:.4f} ({low:.4f} to {high:.4f})"


def _write(
    out: Path, about: Mapping[str, Any], guidance: Sequence[Tried], steps: Sequence[Tried], choice: Tried
) -> None:
    """The grid of pictures, the plot and, last, tune.json."""
    own = {(one.solver.guidance, one.solver.steps): one for one in (*guidance, *steps)}
    pictures = np.concatenate([one.shown for one in own.values()])
    columns = len(choice.shown)
    save_grid(torch.from_numpy(pictures).float().unsqueeze(1) / 255, out / "grid.png", columns)
    panels = {
        f"guidance, {guidance[0].solver.steps} steps": [_point(one.solver.guidance, one) for one in guidance],
        f"steps, guidance {steps[0].solver.guidance:g}": [_point(one.solver.steps, one) for one in steps],
    }
    save_intervals(panels, out / "tune.png")
    rows = [
        {
            "guidance": one.solver.guidance,
            "steps": one.solver.steps,
            "kid": one.kid,
            "interval": half_interval(one.kid, one.by_half),
            "minus_chosen": one.kid - choice.kid,
            "minus_chosen_interval": _beside(one, choice),
        }
        for one in own.values()
    ]
    content = {**about, "halves": HALVES, "tried": rows, "solver": asdict(choice.solver)}
    write_whole(out / FILE, json.dumps(content, indent=1) + "\n")


def _point(place: float, one: Tried) -> tuple[float, float, float, float]:
    return place, one.kid, *half_interval(one.kid, one.by_half)
