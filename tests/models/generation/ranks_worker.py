"""Started by torchrun: trains into each folder given, on the made set of the first argument, and a stage.

The first process writes what it is told of a batch that does not divide.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from models.data.busbra import read_busbra
from models.generation import train as shipping
from models.generation.paper.train import train
from models.training.parallel import UnequalSharesError, joined, own_randomness, own_rows, rank, world
from tests.models.generation.small import small_settings
from tests.models.generation.small_stage import run_stage


def draws() -> tuple[torch.Tensor, torch.Tensor]:
    """What a network draws in a step, and what the next batch is then drawn from."""
    torch.manual_seed(0)
    with own_randomness(1, 2, 3):
        own = torch.rand(2)
    return own, torch.rand(2)


def run_exact_stage(data: Path, out: Path) -> None:
    """A small stage without what differs between one process and two: dropout and half precision."""
    usual = shipping.has_bfloat16
    shipping.has_bfloat16 = lambda device: False
    try:
        run_stage(data, out, flow_epochs=2, dropout=0.0)
    finally:
        shipping.has_bfloat16 = usual


def main() -> None:
    """See the module."""
    torch.set_num_threads(1)
    data, *folders = map(Path, sys.argv[1:])
    records = [record for record in read_busbra(data) if record.fold != 5]
    with joined(torch.device("cpu")):
        try:
            own_rows(torch.zeros(3))
        except UnequalSharesError as error:
            (data.parent / f"refused-{rank()}-of-{world()}").write_text(str(error))
        torch.save(draws(), data.parent / f"drawn-{rank()}.pt")
        for folder in folders:
            train(records, folder, small_settings(epochs=3, dropout=0.0))
        run_exact_stage(data, data.parent / "stage-two")


if __name__ == "__main__":
    main()
