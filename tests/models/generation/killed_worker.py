"""Trains a small stage into the first run given; into the second too, killed by itself (SIGKILL) three times.

Each try is a process of its own, forked before anything was computed. After each kill a line of JSON says
what lies there: epochs in the flow's checkpoint, snapshots, and the epoch of weights, history and KID of the
product.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models.generation import train, train_flow
from models.generation.product import WEIGHTS, read_facts
from tests.models.generation.small_stage import run_stage


def in_the_second_epoch() -> None:
    """Die with the second batch of the second epoch; an epoch has three."""
    _before(train_flow, "draw_batch", lambda calls, *rest: calls == 5)


def after_the_second_epoch_is_kept() -> None:
    """Die before snapshot and product of the second epoch."""
    _before(train._Product, "after_epoch", lambda calls, own, fitted, every: len(fitted.history) == 2)


def in_the_second_product() -> None:
    """Die when weights and history of the third epoch's product are written, grid and KID are not."""
    _before(train._Product, "_look", lambda calls, own, folder, epochs: epochs == 3)


def _before(owner: Any, name: str, now: Callable[..., bool]) -> None:
    real, calls = getattr(owner, name), 0

    def dying(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if now(calls, *arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    setattr(owner, name, dying)


def trained(data: Path, run: Path, armed: Callable[[], None] = lambda: None) -> int:
    """Train in another process; the signal that ended it, 0 if none did."""
    child = os.fork()
    if not child:
        status = 1
        try:
            armed()
            run_stage(data, run, stage=train.Stage(snapshot_every=1))
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"training {run} failed")
    return os.WTERMSIG(status)


def left(run: Path) -> dict[str, Any]:
    """What a killed run left."""
    checkpoint = torch.load(run / "flow" / "checkpoint.pt", weights_only=True)
    product = run / "product"
    return {
        "kept": len(checkpoint["history"]),
        "snapshots": sorted(int(path.stem) for path in (run / train.SNAPSHOTS).glob("*.safetensors")),
        "product": _epochs_of(product) if product.exists() else None,
    }


def _epochs_of(product: Path) -> list[int]:
    last = (json.loads((product / name).read_text())[-1]["epoch"] for name in ("history.json", "kid.json"))
    return [read_facts(product / WEIGHTS)["epochs"], *map(int, last)]


def main() -> None:
    """See the module."""
    torch.set_num_threads(1)
    data, whole, killed = map(Path, sys.argv[1:])
    trained(data, whole)
    for armed in (in_the_second_epoch, after_the_second_epoch_is_kept, in_the_second_product):
        print(json.dumps({"died_by": trained(data, killed, armed), **left(killed)}), flush=True)
    trained(data, killed)


if __name__ == "__main__":
    main()
