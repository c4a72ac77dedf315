"""`busmap generator tune`, `stop` and `speckle`: chosen on the patients that a generator set aside."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from models.data.busbra import read_busbra
from models.generation.conditions import MOST_GUIDANCE, MOST_STEPS
from models.generation.study.cli import Data, generator_and_learned, generator_facts, learned_half
from models.training.border import border

_border = partial(border, "generator")


def tune(
    data: Data,
    model: Annotated[Path, typer.Option(help="Product of the generator.")],
    out: Annotated[Path, typer.Option(help="Folder of the choice; one that is there is gone on with.")],
    count: Annotated[int, typer.Option(min=4, help="Pictures drawn of each setting.")] = 256,
    guidance: Annotated[
        str, typer.Option(help="Guidance to try, with commas, in the usual scale.")
    ] = "1,1.25,1.5,2,2.5",
    steps: Annotated[str, typer.Option(help="Steps to try at the best guidance, with commas.")] = "8,12,24",
    at: Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="Steps at which guidance is tried.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Seed of noise and halves.")] = 1,
) -> None:
    """Choose guidance and steps by KID on the patients set aside: OUT/tune.json, for `sample --solver`."""
    given = _numbers(guidance, 0, MOST_GUIDANCE), _numbers(steps, 1, MOST_STEPS, whole=True)
    grid = tuple(given[0]), tuple(int(n) for n in given[1])
    with _border():
        module = import_module("models.generation.study.tune")
        generator, learned = generator_and_learned(data, model, out)
        chosen = module.tune(generator, learned, out, module.Grid(*grid, at), count, seed, typer.echo)
        typer.echo(f"Chosen: guidance {chosen.guidance:g}, {chosen.steps} steps: {out / module.FILE}")


def speckle(
    data: Data,
    model: Annotated[Path, typer.Option(help="Product of the generator.")],
    out: Annotated[Path, typer.Option(help="Folder of the comparison.")],
    count: Annotated[int, typer.Option(min=8, help="Frames rebuilt in each way.")] = 256,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of noise, scatterers, halves and pictures shown.")
    ] = 1,
) -> None:
    """Compare ways to make speckle on the patients set aside; says what NOTICE has to name."""
    with _border():
        module = import_module("models.generation.study.speckle_compare")
        generator, learned = generator_and_learned(data, model, out)
        real = module.compare_speckle(generator, learned, out, count, seed, typer.echo)
        typer.echo(f"Compared: {out / module.FILE}, {out / module.PICTURE}")
        typer.echo(f"Name in NOTICE, if the picture is passed on: BUS-BRA pictures {', '.join(real)}")


def stop(
    data: Data,
    run: Annotated[
        list[Path],
        typer.Option(help="Folder of a training run; of a generator trained in stages, each in order."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the judgement (default: stop in the last run's).")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of time and noise a patient.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of these.")] = 1,
    final: Annotated[
        bool, typer.Option("--final", help="The choice is final: delete the snapshots of the runs.")
    ] = False,
) -> None:
    """Choose how long to train by what the flow gives away of its patients: OUT/product, as it was then."""
    with _border():
        module = import_module("models.generation.study.stopping")
        last = run[-1] / "product" if (run[-1] / "product").exists() else run[-1]
        learned = learned_half(read_busbra(data), generator_facts(last), run[-1])
        folder = out or run[-1] / "stop"
        device = import_module("models.training.device").best_device()
        chosen = module.stop(run, learned, folder, device, draws, seed, typer.echo)
        if chosen is None:
            typer.echo(f"No stopping point: the first snapshot fails the rule already. Losses: {folder}")
            raise typer.Exit(1)
        typer.echo(f"Stopping point: {chosen.epochs} epochs: {folder / 'product'}")
        typer.echo(f"With intervals: busmap validate generator {folder}")
        if final:
            module.forget(run)


def _numbers(text: str, least: float, most: float, *, whole: bool = False) -> list[float]:
    """The numbers of a list with commas.

    Raises
    ------
    typer.BadParameter
        One is none, or is too small or too large.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers with commas") from None
    if not all(least <= n <= most and (not whole or n.is_integer()) for n in numbers):
        kind = "whole numbers" if whole else "numbers"
        raise typer.BadParameter(f"{text!r} must be {kind} from {least:g} to {most:g}")
    return list(dict.fromkeys(numbers))
