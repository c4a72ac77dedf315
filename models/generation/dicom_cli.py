"""`busmap generator dicom` and `golden`: generated pictures as studies."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from models.generation.manifest import differences
from models.generation.solver_options import (
    Guidance,
    KeepAway,
    Steps,
    Tuned,
    chosen_index,
    chosen_solver,
)
from models.training.border import border

_border = partial(border, "generator")


def dicom(
    repository: Annotated[Path, typer.Argument(help="Folder of drawn images (busmap generator sample).")],
    out: Annotated[Path, typer.Argument(help="Folder for the studies: new or empty.")],
    most: Annotated[int | None, typer.Option(min=1, help="Studies at most.")] = None,
) -> None:
    """Write drawn images as DICOM ultrasound studies: no patient, synthetic in every header."""
    with _border():
        count, left, digest = import_module("models.generation.golden").write_set(repository, out, most)
        typer.echo(f"Studies: {count} in {out}; images left out: {left}; manifest {digest}")


def golden(
    model: Annotated[Path, typer.Option(help="Folder of a generator: the product of a training stage.")],
    out: Annotated[Path, typer.Option(help="Folder for the set: new or empty.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the set.")] = 1,
    steps: Steps = None,
    guidance: Guidance = None,
    solver: Tuned = None,
    keep_away: KeepAway = None,
) -> None:
    """Draw the golden set: 64 studies, no patients, at most 10 MB, with a manifest of their hashes."""
    with _border():
        device = import_module("models.training.device").best_device()
        generator = import_module("models.generation.product").load_generator(model, device)
        solving = chosen_solver(generator.digest, solver, steps, guidance)
        near = chosen_index(keep_away)
        digest = import_module("models.generation.golden").make_golden(generator, out, seed, solving, near)
        typer.echo(f"Golden set: {out}; manifest {digest}")


def verify(folder: Annotated[Path, typer.Argument(help="Folder of a set with its manifest.")]) -> None:
    """Check a set of generated studies against its manifest; exit status 1 where anything differs."""
    with _border():
        found = differences(folder)
    for difference in found:
        typer.echo(difference)
    typer.echo(f"{folder}: {len(found)} differences")
    if found:
        raise typer.Exit(1)
