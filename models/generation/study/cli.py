"""`busmap generator study`, `index`, `privacy`, `fidelity`, `confirm`, `page`: what pictures are worth."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from models.data.busbra import DEVELOPMENT_FOLDS, read_busbra
from models.training.border import border

Out = Annotated[Path, typer.Option(help="Folder of the measures.")]
Count = Annotated[int, typer.Option(min=2, help="Generated pictures of lesions that are compared.")]
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


def index(
    data: Data,
    model: Model,
    out: Annotated[
        Path, typer.Option(help="File of the index; holds real pictures in small, not to be passed on.")
    ],
    quantile: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of real pictures, of patients set aside, that would count as too near.",
        ),
    ] = 0.05,
) -> None:
    """Index the pictures that a generator learned from, so that sampling can keep away from them."""
    with _border():
        privacy_module = import_module("models.generation.study.privacy")
        facts = generator_facts(model)
        learned = learned_half(read_busbra(data), facts, out.parent)
        thresholds = privacy_module.write_index(learned, out, quantile)
        shown = ", ".join(f"{kind} {value:.4f}" for kind, value in thresholds.items())
        typer.echo(f"Index: {out}; too near below {shown} (0 the same, 2 the opposite)")


def privacy(
    data: Data,
    model: Model,
    repository: Repository,
    out: Out,
    count: Count = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of times and noise of the flow's loss.")] = 1,
) -> None:
    """Measure neighbours, twins, retrieval and membership against the patients it has not seen."""
    with _border():
        generator, learned, other = _generator_and_halves(data, model, repository, out)
        measure = import_module("models.generation.study.privacy").measure_privacy
        measure(generator, learned, other, repository, out, count, seed)
        typer.echo(f"Measures: {out}; judge them: busmap validate generator {out}")


def fidelity(
    data: Data,
    model: Model,
    repository: Repository,
    out: Out,
    count: Count = 731,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of the networks that look (default: the shipped runs').")
    ] = None,
) -> None:
    """Measure features, obedience and speckle, by networks trained on real pictures of the other half."""
    with _border():
        generator, learned, other = _generator_and_halves(data, model, repository, out)
        settings = import_module("models.generation.study.run").StudySettings()
        if epochs is not None:
            settings = replace(
                settings,
                diagnosis=replace(settings.diagnosis, epochs=epochs),
                segmentation=replace(settings.segmentation, epochs=epochs),
            )
        measure = import_module("models.generation.study.fidelity").measure_fidelity
        measure(generator, learned, other, repository, out, count, settings)
        typer.echo(f"Measures: {out}; judge them: busmap validate generator {out}")


def page(
    data: Data,
    model: Annotated[Path, typer.Option(help="Product of the generator.")],
    repository: Repository,
    out: Annotated[Path, typer.Option(help="Folder of the page.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed that chooses and shuffles.")] = 1,
) -> None:
    """Write a page of real and generated pictures, shuffled, with a key; says what NOTICE has to name."""
    with _border():
        module = import_module("models.generation.study.page")
        with TemporaryDirectory(prefix="busmap-page-") as scratch:
            facts = generator_facts(model, repository)
            module.refuse_few(repository)
            learned = learned_half(read_busbra(data), facts, Path(scratch))
            real = module.write_page(learned, repository, out, seed)
        typer.echo(f"Page: {out / module.NAME}.md")
        typer.echo(f"Name in NOTICE, if it is passed on: BUS-BRA pictures {', '.join(real)}")


def generator_and_learned(data: Path, model: Path, out: Path) -> tuple[Any, Any]:
    """A generator, and the half that it learned from, its frames kept under `out`."""
    learned = learned_half(read_busbra(data), generator_facts(model), out / "frames")
    return _loaded(model), learned


def _loaded(model: Path) -> Any:
    device = import_module("models.training.device").best_device()
    return import_module("models.generation.product").load_generator(model, device)


def _generator_and_halves(data: Path, model: Path, repository: Path, out: Path) -> tuple[Any, Any, Any]:
    """The generator, the half that it learned from, and the other one."""
    facts = generator_facts(model, repository)
    records = read_busbra(data)
    _, others = import_module("models.generation.study.run").halves(records, facts, DEVELOPMENT_FOLDS)
    learned = learned_half(records, facts, out / "frames")
    free = {**facts, "validation_patients": ()}
    other = import_module("models.generation.study.privacy").half_of(others, free, out / "frames")
    return _loaded(model), learned, other


def learned_half(records: Any, facts: dict[str, Any], cache: Path) -> Any:
    """The half that a generator of `facts` learned from; its frames are kept under `cache`.

    Raises
    ------
    DataError
        The records are not those that it learned from.
    """
    chosen = import_module("models.generation.train").chosen_records
    own = chosen(records, facts["folds"], facts.get("excluded_device"))
    if import_module("models.data.record").data_hash(own) != facts["data_hash"]:
        raise import_module("models.data.record").DataError(
            "the generator learned from other images than these: give the --data it was trained on"
        )
    return import_module("models.generation.study.privacy").half_of(own, facts, cache)


def generator_facts(model: Path, repository: Path | None = None) -> dict[str, Any]:
    """What a generator says of its training, and its digest; that a repository was drawn from it is checked.

    Raises
    ------
    DataError
        The model cannot be read or is fine-tuned, or the repository was drawn from another.
    """
    product = import_module("models.generation.product")
    device = import_module("torch").device("cpu")
    generator = product.load_generator(model, device)
    if "fine_tuned" in generator.facts:
        raise import_module("models.data.record").DataError(
            f"{model} is fine-tuned (busmap generator adapt --full): it has seen patients that are judged or "
            "set aside; give the generator that a training stage made"
        )
    if repository is not None:
        rows = import_module("models.generation.repository").read_rows(repository)
        if {(row.model, row.adapter) for row in rows} != {(generator.digest, "")}:
            raise import_module("models.data.record").DataError(
                f"{repository} was not drawn from {model} alone: give the generator that it was drawn from"
            )
    return {**generator.facts, "digest": generator.digest}


def confirm(
    data: Data,
    breast: Annotated[Path, typer.Option(help="Folder in which BrEaST was unpacked.")],
    study: Annotated[Path, typer.Option(help="Folder of the finished study (busmap generator study).")],
    out: Annotated[Path, typer.Option(help="Folder of the confirmation: without one in it yet.")],
) -> None:
    """Score fold 5 and BrEaST, once a study, with the stored arms real, gen-10 and both."""
    with _border():
        module = import_module("models.generation.study.confirm")
        fold = [record for record in read_busbra(data) if record.fold == module.FOLD]
        external = import_module("models.data.breast").read_breast(breast)
        module.confirm(study, {f"BUS-BRA fold {module.FOLD}": fold, "BrEaST": external}, out)
        typer.echo(f"Scores: {out / module.FILE}; judge them: busmap validate generator {out}")
