"""`busmap generator`: train the generator of labelled images, draw from it.

Promises: a killed command goes on where it stopped when it is given again. An error is one line with
cause and remedy and a true exit status. Refuses to start without the extra `train`, and says how to get it.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from models.data.busbra import DEVELOPMENT_FOLDS, read_busbra
from models.training.border import border

app = typer.Typer(no_args_is_help=True, help="Train the generator of labelled images and draw from it.")

_border = partial(border, "generator")


@app.callback()
def generator() -> None:
    """Train the generator of labelled images and draw from it."""


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder in which BUS-BRA was unpacked.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there is resumed.")],
    folds: Annotated[str, typer.Option(help="Folds to learn from, of 1 to 4, with commas.")] = "1,2,3,4",
    exclude_device: Annotated[
        str | None, typer.Option(help="Leave out images of devices with this in their name.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="End the stage after the epoch in which this time is over.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Product of an earlier stage to go on from, on any machine.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
) -> None:
    """Train autoencoder and flow into OUT; what they are worth so far lies in OUT/product."""
    numbers = fold_numbers(folds)
    with _border():
        module = import_module("models.generation.train")
        records = module.chosen_records(read_busbra(data), numbers, exclude_device)
        typer.echo(f"BUS-BRA, folds {folds}: {len(records)} images")
        facts = {"folds": list(numbers), "excluded_device": exclude_device}
        settings = module.Settings(seed=seed)
        module.train(records, out, facts, settings, minutes=minutes, start=start)
        typer.echo(f"Product: {out / 'product'}")


def fold_numbers(folds: str) -> tuple[int, ...]:
    """The folds that a list names.

    Raises
    ------
    typer.BadParameter
        One of them is no development fold.
    """
    names = [name.strip() for name in folds.split(",")]
    if not set(names) <= {str(fold) for fold in DEVELOPMENT_FOLDS}:
        raise typer.BadParameter(f"{folds!r} names other folds than 1 to 4 (5 confirms only)")
    return tuple(sorted({int(name) for name in names}))
