"""`busmap generator paper`: train and sample the published configuration, and time it on this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from models.data.busbra import read_busbra
from models.data.record import Record
from models.generation.folds import fold_numbers
from models.training.border import border

app = typer.Typer(
    no_args_is_help=True,
    help="The generator as published (BUSGen), to compare with.",
)
_border = partial(border, "generator")


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder in which BUS-BRA was unpacked.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there is resumed.")],
    folds: Annotated[str, typer.Option(help="Folds to learn from, of 1 to 4, with commas.")] = "1,2,3,4",
    side: Annotated[int, typer.Option(min=8, help="Side of the picture in pixels, a multiple of 8.")] = 160,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs.")] = 70,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a step, all processes together.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 1,
) -> None:
    """Train as published. Meant for a GPU: on two cores one step at 160 px takes most of a minute."""
    chosen = fold_numbers(folds)
    if side % 8:
        raise typer.BadParameter(f"--side {side} is no multiple of 8: the network halves it three times")
    with _border():
        from models.generation.paper import train as training
        from models.training.device import best_device
        from models.training.parallel import joined

        loop = replace(training.DEFAULTS, epochs=epochs, batch_size=batch_size, seed=seed)
        with joined(best_device()):
            training.train(_records(data, chosen), out, training.PaperSettings(loop, side=side))
    typer.echo(f"Trained: {out}")


@app.command()
def sample(
    run: Annotated[Path, typer.Option(help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures and samples.csv.")],
    count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the first picture; the next ones count on.")] = 1,
    guidance: Annotated[
        float, typer.Option(min=0.0, help="Weight w of the publication; acts as w + 1 in the usual scale.")
    ] = 1.8,
    evaluations: Annotated[int, typer.Option(min=2, help="Evaluations of the solver.")] = 50,
) -> None:
    """Draw pictures: class and device drawn evenly, a box from the prior of the class."""
    with _border():
        from models.generation.paper.run import read_run
        from models.generation.paper.sample import write_samples

        write_samples(read_run(run), out, count, seed, guidance, evaluations)
    typer.echo(f"Drawn: {out} ({count} pictures)")


@app.command()
def speed(
    model: Annotated[Path, typer.Option(help="Folder of a generator: the product of a training stage.")],
    out: Annotated[Path | None, typer.Option(help="File for all figures (JSON).")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the shipping generator's solver.")] = 12,
    guidance: Annotated[float, typer.Option(min=0, help="Its guidance in the usual scale; 1 is none.")] = 1.5,
    gpu: Annotated[bool, typer.Option("--gpu", help="Both on the GPU instead of the CPU.")] = False,
) -> None:
    """Time the generator that ships and the published one in one run, and say how many times faster it is.

    The published one is timed over two evaluations of its solver, four of the network, and scaled to 50.
    """
    with _border():
        from models.generation.flow import Solver
        from models.generation.paper.compare import compare
        from models.generation.product import load_generator
        from models.training.device import best_device

        device = best_device(gpu=gpu)
        if gpu and device.type == "cpu":
            raise typer.BadParameter("--gpu: torch finds no GPU on this machine")
        generator = load_generator(model, device)
        found = compare(generator, Solver(steps, guidance), generator.prior.side)
        if out is not None:
            out.write_text(json.dumps(found.facts(), indent=1) + "\n", encoding="utf-8")
    typer.echo(f"{found.side} px, {found.device}, {found.threads} threads, one run:")
    typer.echo(
        f"shipping, {steps} steps, guidance {guidance}: {found.image_seconds:.3f} s an image "
        f"(median of {len(found.shipping_seconds)} batches)"
    )
    for one in found.paper:
        typer.echo(
            f"published, {one.attention}: {one.image_seconds:.0f} s an image (scaled from "
            f"{len(one.evaluation_seconds)} of 50 evaluations); {found.times_faster(one):.0f} times slower"
        )


def _records(data: Path, folds: tuple[int, ...]) -> list[Record]:
    return [record for record in read_busbra(data) if record.fold in folds]
