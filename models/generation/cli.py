"""`busmap generator`: train the generator of labelled images, draw from it.

Promises: a killed command goes on where it stopped when it is given again. An error is one line with
cause and remedy and a true exit status. Refuses to start without the extra `train`, and says how to get it.
"""

from __future__ import annotations

import re
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from models.data.busbra import read_busbra
from models.generation.adapt_cli import adapt, few_shot
from models.generation.dicom_cli import dicom, golden, verify
from models.generation.folds import fold_numbers
from models.generation.paper.cli import app as paper
from models.generation.redraw_cli import redraw
from models.generation.solver_options import (
    Guidance,
    KeepAway,
    Steps,
    Tuned,
    chosen_index,
    chosen_solver,
)
from models.generation.study.choose_cli import speckle, stop, tune
from models.generation.study.cli import confirm, fidelity, index, page, privacy, study
from models.training.border import border

app = typer.Typer(no_args_is_help=True, help="Train the generator of labelled images and draw from it.")

app.add_typer(paper, name="paper")
_DRAWN = (adapt, few_shot, redraw, dicom, golden, verify)
_MEASURED = (tune, stop, speckle, index, privacy, fidelity, study, confirm, page)
for verb in (*_DRAWN, *_MEASURED):
    app.command()(verb)

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
        float | None,
        typer.Option(
            min=0, help="End the stage after the epoch, of autoencoder or flow, in which this time is over."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="End training after this epoch of the flow, earlier stages counted."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Product of an earlier stage to go on from, on any machine.")
    ] = None,
    decoder_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs for which the decoder of --start learns on, its encoder held.")
    ] = 0,
    snapshot_every: Annotated[
        int,
        typer.Option(
            min=0,
            help="Keep the flow every so many epochs, for busmap generator stop (14 MB each; 0: never).",
        ),
    ] = 25,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 1,
) -> None:
    """Train autoencoder and flow into OUT; what they are worth so far lies in OUT/product."""
    numbers = fold_numbers(folds)
    with _border():
        module = import_module("models.generation.train")
        records = module.chosen_records(read_busbra(data), numbers, exclude_device)
        typer.echo(f"BUS-BRA, folds {folds}: {len(records)} images")
        facts = {"folds": list(numbers), "excluded_device": exclude_device}
        settings = module.Settings().with_seed(seed)
        parallel = import_module("models.training.parallel")
        with parallel.joined(import_module("models.training.device").best_device()):
            stage = module.Stage(minutes, epochs, start, decoder_epochs, snapshot_every)
            begun = module.train(records, out, facts, settings, stage)
        if begun:
            typer.echo(f"Product: {out / 'product'}")
        else:
            typer.echo("No product yet: the time was over before the flow began. The same command goes on.")


@app.command()
def sample(
    model: Annotated[Path, typer.Option(help="Folder of a generator: the product of a training stage.")],
    out: Annotated[Path, typer.Option(help="Folder of the repository; one that is there is gone on with.")],
    count: Annotated[int, typer.Option(min=1, help="Images of the whole repository.")] = 1000,
    shard: Annotated[
        str, typer.Option(help="I/N: draw the I-th of N shares only, so that machines can share the work.")
    ] = "1/1",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the repository.")] = 1,
    devices: Annotated[
        str | None,
        typer.Option(
            help="Devices, with commas (default: those seen of at least 20 patients, or the adapter's)."
        ),
    ] = None,
    no_lesion: Annotated[float, typer.Option(min=0, max=1, help="Share without a lesion.")] = 0.1,
    malignant: Annotated[float, typer.Option(min=0, max=1, help="Share of malignant among lesions.")] = 0.5,
    two_lesions: Annotated[float, typer.Option(min=0, max=1, help="Share with two among lesions.")] = 0.05,
    callipers: Annotated[float, typer.Option(min=0, max=1, help="Share with painted callipers.")] = 0.25,
    text: Annotated[float, typer.Option(min=0, max=1, help="Share with painted text.")] = 0.25,
    steps: Steps = None,
    guidance: Guidance = None,
    solver: Tuned = None,
    keep_away: KeepAway = None,
    adapter: Annotated[
        Path | None, typer.Option(help="File of an adapter that was made for the model.")
    ] = None,
) -> None:
    """Draw labelled images, masks and their table into OUT."""
    part, whole = shard_numbers(shard)
    with _border():
        drawing = import_module("models.generation.draw")
        repository = import_module("models.generation.repository")
        product = import_module("models.generation.product")
        device = import_module("models.training.device").best_device()
        generator = product.load_generator(model, device)
        if adapter is not None:
            generator = import_module("models.generation.adapter").with_adapter(generator, adapter)
        names = drawing.asked_devices(generator.facts, devices)
        asked = drawing.Asked(no_lesion, malignant, two_lesions, names, callipers, text)
        solving = chosen_solver(generator.digest, solver, steps, guidance)
        own = repository.shard_of(count, part, whole)
        if own.first == own.stop:
            typer.echo(f"Nothing to draw: share {shard} of {count} images is empty")
            return
        near = chosen_index(keep_away)
        rate = repository.fill(generator, out, asked, solving, seed, own, near)
        speed = f", {rate:.2f} images/s" if rate else ", all there before"
        typer.echo(f"Drawn: {out}, images {own.first} to {own.stop - 1}{speed}")
        if near:
            typer.echo(
                f"Thrown away for being too near to a training picture: {repository.rejected_count(out)}"
            )


def shard_numbers(shard: str) -> tuple[int, int]:
    """Number, from 1, and count of shards in "I/N".

    Raises
    ------
    typer.BadParameter
        It is not of that form, or I is not from 1 to N.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", shard)
    if found and 1 <= int(found[1]) <= int(found[2]):
        return int(found[1]), int(found[2])
    raise typer.BadParameter(f"{shard!r} is no share: 2/8 is the second of eight")
