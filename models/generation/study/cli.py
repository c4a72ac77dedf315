"""`busmap generator study`: what the generator's pictures are worth, arm by arm."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from models.data.busbra import DEVELOPMENT_FOLDS, read_busbra
from models.training.border import border

_border = partial(border, "generator")

Data = Annotated[Path, typer.Option(help="Folder in which BUS-BRA was unpacked.")]
Model = Annotated[
    Path,
    typer.Option(help="Product of the generator; says which folds it learned from: the others are judged."),
]
Repository = Annotated[Path, typer.Option(help="Folder of pictures drawn from it (busmap generator sample).")]


def study(
    data: Data,
    model: Model,
    repository: Repository,
    out: Annotated[Path, typer.Option(help="Folder of the study; one that is there is gone on with.")],
    arms: Annotated[
        str | None, typer.Option(help="Arms to run, of real, gen-1, gen-3, gen-10, both, with commas.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no further arm after this time.")
    ] = None,
) -> None:
    """Train the arms of docs/protocol-generator.md and let each score the patients it has not seen."""
    with _border():
        run = import_module("models.generation.study.run")
        arms_module = import_module("models.generation.study.arms")
        known = [arm.name for arm in arms_module.DIAGNOSIS]
        only = [name.strip() for name in arms.split(",")] if arms else []
        if not set(only) <= set(known):
            raise typer.BadParameter(f"{arms!r} names other arms than {', '.join(known)}")
        facts = generator_facts(model, repository)
        learned, judged = run.halves(read_busbra(data), facts, DEVELOPMENT_FOLDS)
        typer.echo(f"Learned from: {len(learned)} images; judged: {len(judged)} images of other patients")
        whole = run.Study(learned, judged, repository, out, run.StudySettings())
        done = run.run_study(whole, {"generator": facts["digest"]}, only, minutes)
        typer.echo(
            f"Scores: {out}; judge them: busmap validate generator {out}"
            if done
            else f"Scores so far: {out}; the same command without --arms goes on"
        )


def generator_facts(model: Path, repository: Path | None = None) -> dict[str, Any]:
    """What a generator says of its training, and its digest; that a repository was drawn from it is checked.

    Raises
    ------
    DataError
        The model cannot be read, or the repository was drawn from another.
    """
    product = import_module("models.generation.product")
    device = import_module("torch").device("cpu")
    generator = product.load_generator(model, device)
    if repository is not None:
        rows = import_module("models.generation.repository").read_rows(repository)
        if {row.model for row in rows} != {generator.digest}:
            raise import_module("models.data.record").DataError(
                f"{repository} was not drawn from {model}: give the generator that it was drawn from"
            )
    return {**generator.facts, "digest": generator.digest}
