"""How a command is told what to draw with: steps and guidance by hand, or as `tune` chose them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

Steps = Annotated[int | None, typer.Option(min=1, help="Steps of the solver (default: 12).")]
Guidance = Annotated[
    float | None, typer.Option(min=0, help="Guidance in the usual scale; 1 is none (default: 1.5).")
]


def chosen_solver(model: str, file: Path | None, steps: int | None, guidance: float | None) -> Any:
    """The solver of a tune.json for the model with this SHA-256, else of steps and guidance.

    Raises
    ------
    DataError
        The file cannot be read, or was chosen for another model.
    """
    if file is not None:
        return import_module("models.generation.study.tune").chosen_solver(file, model)
    given = {"steps": steps, "guidance": guidance}
    own = {name: value for name, value in given.items() if value is not None}
    return import_module("models.generation.flow").Solver(**own)
