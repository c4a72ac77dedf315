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
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from models.data.whole import whole_file, write_whole
from models.training.parallel import (
    agree,
    gathered,
    own_randomness,
    rank,
    told_by_first,
    with_the_others,
)
from models.training.run import RunDiffersError
from models.training.seeds import epoch_seed

Batch = tuple[torch.Tensor, ...]
Loss = Callable[[torch.nn.Module, Batch], torch.Tensor]


@dataclass(frozen=True)
class LoopSettings:
    """Hyperparameters of a run; written beside its weights.

    epochs : of the whole run
    batch_size : rows a step, of all processes together
    learning_rate : the highest
    weight_decay : of AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101), a share of the rate
    ema_decay : share of the averaged weights that a step keeps, once warmed up
    warmup_share : share of all steps over which the rate rises
    seed : of weights, batches and noise
    schedule : "one-cycle" falls to zero over the epochs (Smith & Topin 2017, arXiv:1708.07120); "constant"
        stays after its warm-up, for runs in stages whose end is open
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
    """A run up to its last epoch: the averaged network in eval mode, and one row of history an epoch.

    `out_of_time`: an epoch was trained, and after it the time was over.
    """

    network: torch.nn.Module
    history: tuple[dict[str, float], ...]
    out_of_time: bool = False


@dataclass(frozen=True)
class Limits:
    """What ends a run before its settings do.

    deadline : of time.monotonic(), s; the epoch in which it passes is the last one
    until : epochs, those of earlier stages counted
    """

    deadline: float | None = None
    until: int | None = None

    @classmethod
    def within(cls, minutes: float | None, until: int | None = None) -> Limits:
        """From now on, so many minutes."""
        return cls(None if minutes is None else time.monotonic() + minutes * 60, until)

    def over(self) -> bool:
        """Whether the time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline


UNLIMITED = Limits()


@dataclass(frozen=True)
class _State:
    """What a checkpoint holds: everything that changes while training."""

    network: torch.nn.Module
    trained: torch.nn.Module  # the network, or what joins it with those of the other processes
    average: torch.nn.Module
    steering: Steering
    history: list[dict[str, float]]


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


def _groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Norms and biases are not decayed."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@dataclass(frozen=True)
class Task:
    """What a run learns.

    network : what is trained
    batches : epoch number (from 0) -> the batches of that epoch, of each `own_rows` only
    loss : network and batch -> the mean over its rows; calls the network as a function
    steps_per_epoch : batches an epoch
    evaluate : averaged network -> figures for the history
    steer : network, settings, steps an epoch -> what moves the weights
    """

    network: torch.nn.Module
    batches: Callable[[int], Iterable[Batch]]
    loss: Loss
    steps_per_epoch: int
    evaluate: Callable[[torch.nn.Module], dict[str, float]] = lambda network: {}
    steer: Callable[[torch.nn.Module, LoopSettings, int], Steering] = one_cycle


def fit(
    task: Task,
    settings: LoopSettings,
    folder: Path,
    label: str,
    *,
    before: Sequence[dict[str, float]] = (),
    limits: Limits = UNLIMITED,
    after_epoch: Callable[[Fitted], None] = lambda fitted: None,
) -> Fitted:
    """Train for `settings.epochs`, resuming from `folder/checkpoint.pt` if it is there.

    Parameters
    ----------
    before : history of an earlier stage whose weights the network holds
    after_epoch : called once an epoch is kept, and again for the last one when a run is resumed: a kill
        may have come between

    Raises
    ------
    RunDiffersError
        The checkpoint in `folder` was made with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    checkpoint = folder / "checkpoint.pt"
    state = _start(task.network, task.steer(task.network, settings, task.steps_per_epoch))
    state.history[:] = before
    if checkpoint.exists():
        _resume(state, settings, checkpoint)
        if rank() == 0:
            after_epoch(_fitted(state))
    last = settings.epochs if limits.until is None else min(limits.until, settings.epochs)
    over = False
    with _progress(shown=rank() == 0) as progress:
        bar = progress.add_task(label, total=last * task.steps_per_epoch, shown="")
        progress.update(bar, completed=len(state.history) * task.steps_per_epoch)
        for epoch in range(len(state.history), last):
            started = time.monotonic()
            shown = partial(_show, progress, bar, epoch)
            row = _epoch_row(state, epoch, task, settings, shown)
            state.history.append(row)
            if rank() == 0:
                _save(state, settings, checkpoint)
                after_epoch(_fitted(state))
                figures = " ".join(f"{key} {value:.4f}" for key, value in row.items())
                progress.console.print(f"{label} {figures} ({time.monotonic() - started:.0f} s)")
            over = agree(limits.over())
            if over:
                break
    return replace(_fitted(state), out_of_time=over)


def _fitted(state: _State) -> Fitted:
    return Fitted(state.average, tuple(state.history))


def _show(progress: Progress, bar: TaskID, epoch: int, loss: float) -> None:
    progress.update(bar, advance=1, shown=f"epoch {epoch + 1} loss {loss:.3f}")


def _start(network: torch.nn.Module, steering: Steering) -> _State:
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    return _State(network, with_the_others(network), average, steering, history=[])


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
    if rank() == 0:  # a kill may have come between the checkpoint and this
        _write_history(state, checkpoint.parent)


def _epoch_row(
    state: _State, epoch: int, task: Task, settings: LoopSettings, show: Callable[[float], None]
) -> dict[str, float]:
    """Train one epoch; its row of the history, the same in all processes."""
    own = _train_epoch(state, epoch, task, settings, show)
    row = {"epoch": epoch + 1.0, "loss": fmean(gathered(own))}
    return told_by_first(row | task.evaluate(state.average) if rank() == 0 else row)


def _train_epoch(
    state: _State, epoch: int, task: Task, settings: LoopSettings, show: Callable[[float], None]
) -> float:
    """One epoch, seeded by its number; returns the mean of this process's losses."""
    torch.manual_seed(epoch_seed(settings.seed, epoch))
    network, steering = state.network, state.steering
    network.train()
    losses = []
    for batch in task.batches(epoch):
        with own_randomness(settings.seed, epoch, steering.schedule.last_epoch):
            value = task.loss(state.trained, batch)
        steering.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), steering.clip_norm)
        steering.optimizer.step()
        steering.schedule.step()
        step = steering.schedule.last_epoch
        # The average warms up as TensorFlow's ExponentialMovingAverage does by its `num_updates`: early on it
        # forgets the first weights sooner. Averaging itself: Polyak & Juditsky 1992 (doi:10.1137/0330046).
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
    with whole_file(checkpoint) as unfinished, unfinished.open("wb") as file:
        torch.save(content, file)
    _write_history(state, checkpoint.parent)


def _write_history(state: _State, folder: Path) -> None:
    write_whole(folder / "history.json", json.dumps(state.history, indent=1))


def _progress(*, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[shown]}"),
        TimeRemainingColumn(),
        disable=not shown,
    )


@torch.no_grad()
def _update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)
