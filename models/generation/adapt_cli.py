"""`busmap generator adapt`: teach a frozen generator pictures it has seen few of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from models.data.busbra import read_busbra
from models.data.record import Record, data_hash
from models.generation.folds import fold_numbers
from models.generation.solver_options import Guidance, Steps, chosen_solver
from models.training.border import border

_border = partial(border, "generator")

Base = Annotated[
    Path, typer.Option(help="Folder of the generator to adapt: the product of a training stage.")
]


def adapt(
    context: typer.Context,
    base: Base,
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is there is resumed.")],
    data: Annotated[Path | None, typer.Option(help="Folder in which BUS-BRA was unpacked.")] = None,
    studies: Annotated[Path | None, typer.Option(help="Folder of a site's own DICOM studies.")] = None,
    outlines: Annotated[
        Path | None,
        typer.Option(
            help="Outlines to take instead of the shipped model's: SOP-INSTANCE-UID.png (with --studies)."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="With --data, examples from devices with this in their name; with --studies, the name, of "
            "those the generator knows, under which they are learned."
        ),
    ] = None,
    histology: Annotated[
        str | None, typer.Option(help="Examples of this group of histology (with --data).")
    ] = None,
    folds: Annotated[str, typer.Option(help="Folds that examples come from, of 1 to 4.")] = "1,2,3,4",
    k: Annotated[int, typer.Option("--k", min=1, help="Examples to learn from (with --data).")] = 16,
    draw: Annotated[int, typer.Option(min=0, help="Which draw of examples.")] = 1,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the adapter.")] = 8,
    full: Annotated[bool, typer.Option("--full", help="Fine-tune all weights instead.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything else that is random.")] = 1,
) -> None:
    """Adapt a generator to a few examples: OUT/adapter.safetensors, to be given to `sample --adapter`."""
    numbers = fold_numbers(folds)
    if (data is None) == (studies is None):
        raise typer.BadParameter("say where the examples are: --data or --studies")
    _refuse_unused(context, ("outlines",) if data else ("histology", "folds", "k", "draw"))
    with _border():
        generator = _load(base)
        if studies is not None:
            made = _to_site(generator, out, studies, outlines, device, rank, seed, full=full)
            typer.echo(f"Adapted: {made}")
            return
        assert data is not None
        few = import_module("models.generation.few")
        chosen = few.of_kind(read_busbra(data), numbers, device, histology)
        drawn = few.draw_few(chosen, k, draw)
        typer.echo(f"Examples: {_counted(drawn.examples)}; left to judge by: {_counted(drawn.other)}")
        facts = {**_facts(drawn.examples), "folds": list(numbers), "draw": draw, "histology": histology}
        frames = import_module("models.generation.frames").prepare(drawn.examples, out, seed)
        patients = [record.patient_id for record in drawn.examples]
        settings = adapt_settings(drawn.examples, rank, seed, full=full)
        made = import_module("models.generation.adapt").adapt(
            generator, frames, patients, out, settings, facts
        )
        typer.echo(f"Adapted: {made}")


def _refuse_unused(context: typer.Context, names: Sequence[str]) -> None:
    """Refuse options that were given and would say nothing.

    Raises
    ------
    typer.BadParameter
        One of them was given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            beside = "--studies" if name == "outlines" else "--data"
            raise typer.BadParameter(f"--{name} goes with {beside} alone")


def _to_site(
    base: Any,
    out: Path,
    studies: Path,
    outlines: Path | None,
    device: str | None,
    rank: int,
    seed: int,
    *,
    full: bool,
) -> Path:
    """Adapt to the studies of a site; the run's record counts them and holds a hash of what is learned."""
    name = device or "unknown"
    import_module("models.generation.conditions").Condition(device=name).indices()  # refuses other names
    site = import_module("models.generation.site").site_frames(studies, outlines, name, "unknown", seed)
    patients = len(set(site.patients))
    typer.echo(f"Examples: {len(site.patients)} pictures of {patients} patients")
    if site.set_aside:
        counted = import_module("models.generation.site").counted(site.set_aside)
        typer.echo(f"Set aside: {counted}")
    facts = {
        "k": len(site.patients),
        "patients": patients,
        "devices": [name],
        "studies": True,
        "frames_sha256": import_module("models.generation.frames").frames_hash(site.frames),
    }
    settings = _settings(name, rank, seed, full=full)
    made: Path = import_module("models.generation.adapt").adapt(
        base, site.frames, site.patients, out, settings, facts
    )
    return made


def adapt_settings(examples: tuple[Record, ...], rank: int, seed: int, *, full: bool) -> Any:
    """Settings for these examples: a device learns its own embedding where all of them come from it."""
    devices = {import_module("models.generation.conditions").condition_of(one).device for one in examples}
    return _settings(devices.pop() if len(devices) == 1 else "unknown", rank, seed, full=full)


def _settings(device: str, rank: int, seed: int, *, full: bool) -> Any:
    settings = import_module("models.generation.adapt").AdaptSettings()
    adapter = replace(settings.adapter, rank=rank, device=device)
    flow = replace(settings.flow, loop=replace(settings.flow.loop, seed=seed))
    settings = replace(settings, adapter=adapter, flow=flow)
    return settings.of_full() if full else settings


def _facts(examples: tuple[Record, ...]) -> dict[str, Any]:
    """What an adapter says of its examples: no name and no picture."""
    return {
        "k": len(examples),
        "patients": len({record.patient_id for record in examples}),
        "malignant": sum(record.malignant for record in examples),
        "devices": sorted({record.device for record in examples}),
        "data_hash": data_hash(examples),
    }


def _counted(records: tuple[Record, ...]) -> str:
    patients = {record.patient_id for record in records}
    return f"{len(records)} images of {len(patients)} patients"


def _load(base: Path) -> Any:
    device = import_module("models.training.device").best_device()
    return import_module("models.generation.product").load_generator(base, device)


def few_shot(
    base: Base,
    data: Annotated[Path, typer.Option(help="Folder in which BUS-BRA was unpacked.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; one that is there is gone on with.")],
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no further piece after this time.")
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
) -> None:
    """Run the arms of few-shot adaptation on folds 1 to 4: OUT/few.parquet, scores and no figure."""
    with _border():
        module = import_module("models.generation.study.few_shot")
        device = import_module("models.training.device").best_device()
        settings = replace(module.FewSettings(), solver=chosen_solver("", None, steps, guidance))
        study = module.FewStudy(base, read_busbra(data), fold_numbers("1,2,3,4"), out, device, settings)
        done = module.run_few_shot(study, minutes)
        typer.echo(f"Scores{'' if done else ' so far; the same command goes on'}: {out / module.FILE}")
