"""A training loop that can be killed at any moment and goes on where its last epoch ended.

Promises: everything random in an epoch is seeded by (seed, epoch), and the checkpoint is written whole or
not at all, so a run that was killed ends with the history of one that was not. Keeps an exponential
moving average of the weights, which is what ships. Under torchrun each process trains on its rows of the
same batches (`parallel`), and the first one evaluates, tells the others and writes, into a folder that all
of them can read.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from models.training.parallel import (
    agree,
    gathered,
    own_randomness,
    rank,
    told_by_first,
    with_the_others,
)
from models.training.run import RunDiffersError

Batch = tuple[torch.Tensor, ...]
Loss = Callable[[torch.nn.Module, Batch], torch.Tensor]


@dataclass(frozen=True)
class LoopSettings:
    """Hyperparameters of a run; written beside its weights. `batch_size` is that of all processes together.

    `schedule`: "one-cycle" falls to zero over the epochs; "constant" stays after its warm-up, for runs in
    stages whose end is open.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    ema_decay: float
    warmup_share: float
    seed: int
    schedule: str = "one-cycle"


@dataclass(frozen=True)
class Steering:
    """What moves the weights: an optimizer, a schedule stepped after every batch, a bound on the gradient."""

    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    clip_norm: float = 2.0


@dataclass(frozen=True)
class Fitted:
    """A finished run: the averaged network in eval mode, and one row of history an epoch."""

    network: torch.nn.Module
    history: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class _State:
    """What a checkpoint holds: everything that changes while training."""

    network: torch.nn.Module
    trained: torch.nn.Module  # the network, or what joins it with those of the other processes
    average: torch.nn.Module
    steering: Steering
    history: list[dict[str, float]]


def fit(
    network: torch.nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    loss: Loss,
    evaluate: Callable[[torch.nn.Module], dict[str, float]],
    settings: LoopSettings,
    folder: Path,
    steps_per_epoch: int,
    label: str,
    *,
    steer: Callable[[torch.nn.Module, LoopSettings, int], Steering] | None = None,
    before: Sequence[dict[str, float]] = (),
    minutes: float | None = None,
    until: int | None = None,
    after_epoch: Callable[[Fitted], None] | None = None,
) -> Fitted:
    """Train for `settings.epochs`, resuming from `folder/checkpoint.pt` if it is there.

    Parameters
    ----------
    batches : epoch number (from 0) -> the batches of that epoch, of each `own_rows` only
    loss : network and batch -> the mean over its rows; calls the network as a function
    evaluate, steer : averaged network -> figures for the history; settings -> what moves the weights
    before : history of an earlier stage whose weights `network` holds
    minutes : stop after the epoch in which this time is over
    until : stop after so many epochs, those of `before` counted, where the settings would go on
    after_epoch : called once an epoch is kept

    Raises
    ------
    RunDiffersError
        The checkpoint in `folder` was made with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    checkpoint = folder / "checkpoint.pt"
    state = _start(network, (steer or one_cycle)(network, settings, steps_per_epoch))
    state.history[:] = before
    if checkpoint.exists():
        _resume(state, settings, checkpoint)
    begun = time.monotonic()
    last = settings.epochs if until is None else min(until, settings.epochs)
    with _progress(shown=rank() == 0) as progress:
        task = progress.add_task(label, total=last * steps_per_epoch, shown="")
        progress.update(task, completed=len(state.history) * steps_per_epoch)
        for epoch in range(len(state.history), last):
            started = time.monotonic()

            def show(value: float, epoch: int = epoch) -> None:
                progress.update(task, advance=1, shown=f"epoch {epoch + 1} loss {value:.3f}")

            own = _train_epoch(state, epoch, batches, loss, settings, show)
            row = {"epoch": epoch + 1.0, "loss": fmean(gathered(own))}
            row = told_by_first(row | evaluate(state.average) if rank() == 0 else row)
            state.history.append(row)
            if rank() == 0:
                _save(state, settings, checkpoint)
                if after_epoch is not None:
                    after_epoch(Fitted(state.average, tuple(state.history)))
                figures = " ".join(f"{key} {value:.4f}" for key, value in row.items())
                progress.console.print(f"{label} {figures} ({time.monotonic() - started:.0f} s)")
            if agree(minutes is not None and time.monotonic() - begun >= minutes * 60):
                break
    return Fitted(state.average, tuple(state.history))


def _start(network: torch.nn.Module, steering: Steering) -> _State:
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    return _State(network, with_the_others(network), average, steering, history=[])


def one_cycle(network: torch.nn.Module, settings: LoopSettings, steps_per_epoch: int) -> Steering:
    """AdamW, norms and biases not decayed, under the settings' schedule with their rate as its peak."""
    optimizer = torch.optim.AdamW(_groups(network, settings.weight_decay), lr=settings.learning_rate)
    return Steering(optimizer, _schedule(optimizer, settings, settings.epochs * steps_per_epoch))


def _schedule(
    optimizer: torch.optim.Optimizer, settings: LoopSettings, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if settings.schedule == "constant":
        warmup = max(1, round(settings.warmup_share * steps))
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps, pct_start=settings.warmup_share
    )


def _resume(state: _State, settings: LoopSettings, checkpoint: Path) -> None:
    device = next(state.network.parameters()).device
    kept = torch.load(checkpoint, map_location=device, weights_only=True)
    if kept["settings"] != asdict(settings):
        raise RunDiffersError(f"{checkpoint} was made with other settings: give another --out or delete it")
    state.network.load_state_dict(kept["network"])
    state.average.load_state_dict(kept["average"])
    state.steering.optimizer.load_state_dict(kept["optimizer"])
    state.steering.schedule.load_state_dict(kept["schedule"])
    state.history[:] = kept["history"]


def _train_epoch(
    state: _State,
    epoch: int,
    batches: Callable[[int], Iterable[Batch]],
    loss: Loss,
    settings: LoopSettings,
    show: Callable[[float], None],
) -> float:
    """One epoch, seeded by its number; returns the mean of this process's losses."""
    torch.manual_seed(settings.seed * 1000 + epoch)
    network, steering = state.network, state.steering
    network.train()
    losses = []
    for batch in batches(epoch):
        with own_randomness(settings.seed, epoch, steering.schedule.last_epoch):
            value = loss(state.trained, batch)
        steering.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), steering.clip_norm)
        steering.optimizer.step()
        steering.schedule.step()
        step = steering.schedule.last_epoch
        _update_average(state.average, network, min(settings.ema_decay, (1 + step) / (10 + step)))
        losses.append(value.item())
        show(losses[-1])
    return fmean(losses)


def _save(state: _State, settings: LoopSettings, checkpoint: Path) -> None:
    content = {
        "settings": asdict(settings),
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.steering.optimizer.state_dict(),
        "schedule": state.steering.schedule.state_dict(),
        "history": state.history,
    }
    _replace(checkpoint, partial(torch.save, content))
    _replace(checkpoint.with_name("history.json"), partial(_write_json, state.history))


def _progress(*, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[shown]}"),
        TimeRemainingColumn(),
        disable=not shown,
    )


def _groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Norms and biases are not decayed."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@torch.no_grad()
def _update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    unfinished = path.with_suffix(path.suffix + ".partial")
    write(unfinished)
    unfinished.replace(path)


def _write_json(value: object, path: Path) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
