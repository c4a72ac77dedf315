"""`busmap train`: train the networks on BUS-BRA, fold by fold or to ship, and publish them as bundles.

Promises: only folds 1 to 4 are read for training or choice; a run that was killed goes on where its last
epoch ended when the same command is given again; each run leaves `run.json` (settings with seed, data
hash) beside its weights. An error is one line with cause and remedy and a true exit status. Refuses to
start without the extra `train`, and says how to get it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console

from models.data.busbra import DEVELOPMENT_FOLDS, read_busbra
from models.data.record import DataError, Record
from models.training.border import border

app = typer.Typer(no_args_is_help=True, help="Train the networks on BUS-BRA and publish them as bundles.")

FINAL = "final"
_border = partial(border, "train")

Data = Annotated[Path, typer.Option(help="Folder in which BUS-BRA was unpacked.")]
Out = Annotated[Path, typer.Option(help="Folder of runs; a run that is there is resumed.")]
Folds = Annotated[
    str,
    typer.Option(help="cv: folds 1 to 4, each held out once. final: all four, to ship. 1 to 4: that one."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random (default: the shipped run's).")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs (default: the shipped run's).")]


@app.command()
def lesion(data: Data, out: Out, folds: Folds = "cv", seed: Seed = None, epochs: Epochs = None) -> None:
    """Train the network that outlines lesions, into OUT/segmentation/FOLD."""
    _train("segmentation", data, out, folds, seed, epochs)


@app.command()
def diagnosis(data: Data, out: Out, folds: Folds = "cv", seed: Seed = None, epochs: Epochs = None) -> None:
    """Train the network that tells malignant lesions from others, into OUT/diagnosis/FOLD."""
    _train("diagnosis", data, out, folds, seed, epochs)


@app.command()
def marks(
    data: Data,
    bundles: Annotated[Path, typer.Option(help="Folder for the bundle breast_us_marks.")],
    seed: Seed = None,
) -> None:
    """Train the network that finds burnt-in callipers and text (folds 1 and 2) and write its bundle."""
    with _border():
        module = import_module("models.training.fit_marks")
        settings = module.MarkSettings() if seed is None else module.MarkSettings(seed=seed)
        module.publish_marks(_development(data), settings, bundles / "breast_us_marks")
        typer.echo(f"Bundle: {bundles / 'breast_us_marks'}")


@app.command()
def publish(
    data: Data,
    runs: Annotated[Path, typer.Option(help="Folder of finished runs: both kinds, cv and final.")],
    bundles: Annotated[Path, typer.Option(help="Folder for the two model bundles.")],
    predictions: Annotated[
        Path | None, typer.Option(help="Out-of-fold predictions (default: RUNS/out-of-fold.parquet).")
    ] = None,
) -> None:
    """Predict every fold by the networks that did not see it, then write the bundles of the final run."""
    with _border():
        module = import_module("models.training.publish")
        _check_runs(runs)
        records = _development(data)
        rows = import_module("models.training.out_of_fold").out_of_fold(records, runs, DEVELOPMENT_FOLDS)
        target = predictions or runs / "out-of-fold.parquet"
        import_module("models.data.prediction").write_predictions(rows, target)
        typer.echo(f"Out-of-fold predictions: {target} ({len(rows)} images)")
        module.publish(records, runs, FINAL, rows, bundles)
        typer.echo(f"Bundles: {bundles}")


@app.command()
def gate(
    data: Data,
    bundles: Annotated[
        Path, typer.Option(help="Folder of the model bundles; the lesion bundle's gate changes.")
    ],
    seed: Annotated[int, typer.Option(help="Seed of the varied copies and of the drawn pictures.")] = 1,
) -> None:
    """Fit the gate anew for the weights of a bundle; needs no training environment."""
    with _border():
        records = _development(data)
        made = import_module("models.training.gate_bundle").refit(records, bundles / "breast_us_lesion", seed)
        typer.echo(f"Gate: threshold {made.threshold:.3f}, in {bundles / 'breast_us_lesion'}")


def held_out_folds(folds: str) -> tuple[int | None, ...]:
    """The held-out fold of each run that `folds` asks for; None is the run that holds none out.

    Raises
    ------
    typer.BadParameter
        Neither cv nor final nor a development fold.
    """
    if folds == "cv":
        return DEVELOPMENT_FOLDS
    if folds == FINAL:
        return (None,)
    if folds in map(str, DEVELOPMENT_FOLDS):
        return (int(folds),)
    raise typer.BadParameter(f"{folds!r} is neither cv nor final nor a fold from 1 to 4 (5 confirms only)")


def _train(kind: str, data: Path, out: Path, folds: str, seed: int | None, epochs: int | None) -> None:
    held_out = held_out_folds(folds)
    with _border():
        module = import_module(f"models.{kind}.train")
        settings = _settings(module, seed, epochs)
        records = _development(data)
        with Console(stderr=True).status("preparing pictures"):
            module.prepare(records, out / kind)  # kept there: every run of this kind reads it
        train: Callable[[Sequence[Record], int | None, Path, Any], object] = module.train
        for fold in held_out:
            folder = out / kind / (FINAL if fold is None else str(fold))
            train(records, fold, folder, settings)
            typer.echo(f"Trained: {folder}")


def _settings(module: ModuleType, seed: int | None, epochs: int | None) -> Any:
    given = {key: value for key, value in (("seed", seed), ("epochs", epochs)) if value is not None}
    return replace(module.DEFAULTS, **given)


def _development(data: Path) -> list[Record]:
    records = [record for record in read_busbra(data) if record.fold in DEVELOPMENT_FOLDS]
    typer.echo(f"BUS-BRA, folds 1 to 4: {len(records)} images")
    return records


def _check_runs(runs: Path) -> None:
    for kind, verb in (("segmentation", "lesion"), ("diagnosis", "diagnosis")):
        for name in (*map(str, DEVELOPMENT_FOLDS), FINAL):
            if not (runs / kind / name / "weights.pt").is_file():
                raise DataError(
                    f"{runs / kind / name} holds no finished run: "
                    f"busmap train {verb} --folds {name} --data ... --out {runs}"
                )
