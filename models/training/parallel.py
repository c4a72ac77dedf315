"""Training in several processes (torchrun): who this process is, and what it says to the others.

Promises: one process by itself needs no torchrun. Batches are drawn alike in every process from the
same seed and each takes its own rows, so the number of processes changes no batch; gradients are averaged
over all (DistributedDataParallel), so the loss curve is that of one process. What a network itself draws
(dropout) comes from another stream and differs between processes. Refuses a batch that cannot be shared
equally.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from models.training.seeds import step_seed

T = TypeVar("T")

# The others wait while the first one evaluates; torchrun ends all of them when one dies.
_PATIENCE = timedelta(hours=1)


class UnequalSharesError(ValueError):
    """A batch cannot be shared equally among the processes. The message names the remedy."""

    code = "shares-unequal"
    exit_status = 13


def rank() -> int:
    """Number of this process, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Join the group that torchrun started (its variables are set), gloo on CPU, nccl on CUDA."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def with_the_others(network: torch.nn.Module) -> torch.nn.Module:
    """`network` as it is trained: its gradients averaged over all processes, if there are others."""
    return DistributedDataParallel(network) if world() > 1 else network


def own_rows(whole: torch.Tensor) -> torch.Tensor:
    """The rows that are this process's, of a batch that all processes drew alike.

    Raises
    ------
    UnequalSharesError
        The batch does not divide: its gradients could not simply be averaged.
    """
    if len(whole) % world():
        raise UnequalSharesError(
            f"a batch of {len(whole)} does not divide among {world()} processes: "
            f"give a batch size that is a multiple of {world()}, or another --nproc-per-node"
        )
    return whole[rank() :: world()]


@contextmanager
def own_randomness(seed: int, epoch: int, step: int) -> Iterator[None]:
    """What is drawn inside differs between processes and leaves alone the stream that batches come from."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(step_seed(seed, epoch, step, rank()))
        yield


def mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all processes; no gradient passes through it."""
    if world() == 1:
        return value.detach()
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / world()


def told_by_first(value: T) -> T:
    """The first process's `value`, in all of them."""
    if world() == 1:
        return value
    told = [value]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]


def gathered(value: T) -> list[T]:
    """Every process's `value`, in the order of processes, in all of them."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    torch.distributed.all_gather_object(values, value)
    return values


def agree(stop: bool) -> bool:
    """Whether any process wants to stop: all of them leave after the same epoch."""
    return any(gathered(stop))
