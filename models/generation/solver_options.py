"""How a command is told what to draw with, and what to keep away from."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from models.generation.conditions import MOST_GUIDANCE, MOST_STEPS

Steps = Annotated[int | None, typer.Option(min=1, max=MOST_STEPS, help="Steps of the solver (default: 12).")]
Guidance = Annotated[
    float | None,
    typer.Option(min=0, max=MOST_GUIDANCE, help="Guidance in the usual scale; 1 is none (default: 1.5)."),
]

Tuned = Annotated[
    Path | None,
    typer.Option(help="Steps and guidance that busmap generator tune chose for the model: its tune.json."),
]
KeepAway = Annotated[
    Path | None,
    typer.Option(help="Index of training pictures (busmap generator index): draws too near are thrown away."),
]


def chosen_solver(model: str, file: Path | None, steps: int | None, guidance: float | None) -> Any:
    """The solver of a tune.json for the model with this SHA-256, else of steps and guidance.

    Raises
    ------
    typer.BadParameter
        There is a file, and steps or guidance as well.
    DataError
        The file cannot be read or was chosen for another model, or a number is none.
    """
    if file is not None and (steps or guidance is not None):
        raise typer.BadParameter("--solver brings steps and guidance with it: give no others")
    if file is not None:
        return import_module("models.generation.study.tune").chosen_solver(file, model)
    given = {"steps": steps, "guidance": guidance}
    own = {name: value for name, value in given.items() if value is not None}
    return import_module("models.generation.flow").Solver(**own)


def chosen_index(file: Path | None) -> Any:
    """The index of training pictures to keep away from, or None.

    Raises
    ------
    DataError
        The file is no index.
    """
    return None if file is None else import_module("models.generation.nearest").load_index(file)
