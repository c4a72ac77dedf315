"""The folds that a generator learns from, as a command names them."""

from __future__ import annotations

import typer

from models.data.busbra import DEVELOPMENT_FOLDS


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
