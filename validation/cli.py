"""`busmap validate`: figures with intervals, from prediction files or from a data set's published layout.

Promises: prints a table, writes an HTML report and the figures as JSON where `--out` says; an error is one
line with cause and remedy and a true exit status. Refuses to choose a threshold: they are frozen before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from models.data.busbra import DEVELOPMENT_FOLDS, read_busbra
from models.data.prediction import Prediction, write_predictions, write_rows
from models.runtime.bundle import SHIPPED, read_bundle
from operators.likeness import INTERCEPT, OTHER, SAME, WEIGHTS
from validation.datasets import DataSet, predict_images, records_of
from validation.figures import Judgement, Thresholds, judge
from validation.found_marks import (
    JUDGED_FOLDS,
    area_line,
    find_painted,
    find_real,
    judged_records,
    read_labels,
    recall_lines,
)
from validation.generator.judge import sections_of
from validation.generator.report import write_generator_report
from validation.marks import (
    MAXIMUM_DICE_CHANGE,
    MAXIMUM_PROBABILITY_CHANGE,
    Placement,
    choose,
    compare,
    mean_change,
)
from validation.predictions import read_predictions
from validation.report import RESEARCH_USE, Run, rows_of, write_report
from validation.statistics.bootstrap import RESAMPLES, bootstrap_by_patient
from validation.statistics.proportions import wilson
from validation.statistics.roc import empirical_auc
from validation.views import cross_validated, fit, looks_of, pairs_of

app = typer.Typer(no_args_is_help=True, help="Figures with intervals from predictions or public data sets.")

_OUTPUT_STATUS = 4
Out = Annotated[Path | None, typer.Option(help="Folder for report.html and figures.json.")]
Resamples = Annotated[int, typer.Option(min=100, help="Bootstrap resamples of patients.")]
Seed = Annotated[int, typer.Option(help="Seed of the bootstrap: the same seed, the same intervals.")]
Bundles = Annotated[Path | None, typer.Option(help="Folder of model bundles (default: those that ship).")]
Sensitive = Annotated[
    float | None,
    typer.Option(help="Frozen sensitive threshold: a patient's mean logit (default: the bundle's)."),
]
Specific = Annotated[
    float | None,
    typer.Option(help="Frozen specific threshold: a patient's mean logit (default: the bundle's)."),
]


@app.command()
def predictions(
    files: Annotated[list[Path], typer.Argument(help="Prediction files (parquet), each judged by itself.")],
    out: Out = None,
    threshold_sensitive: Sensitive = None,
    threshold_specific: Specific = None,
    bundles: Bundles = None,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 1,
) -> None:
    """Judge prediction files: AUC, Dice, operating points, calibration, by patient and by device."""
    with _border():
        thresholds = _thresholds(threshold_sensitive, threshold_specific, bundles)
        loaded = [(path.stem, read_predictions(path)) for path in files]
        _judge_and_show(loaded, thresholds, out, resamples, seed)


@app.command()
def dataset(
    name: Annotated[DataSet, typer.Argument(help="busbra (fold 5 only) or breast.")],
    root: Annotated[Path, typer.Argument(help="Folder in which the data set was unpacked.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions, report.html and figures.json.")],
    bundles: Bundles = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 2,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 1,
) -> None:
    """Run the shipped models on a public data set and judge what they say, at their frozen thresholds."""
    with _border():
        from models.runtime.loaded import load_models  # an engine: not needed to judge finished files

        records = records_of(name, root)
        models = load_models(bundles, threads)
        rows = list(predict_images(track(records, f"{name} {len(records)} images"), models))
        write_predictions(rows, out / f"{name}.parquet")
        points = models.judgement.points
        thresholds = Thresholds(points.sensitive_logit, points.specific_logit)
        _judge_and_show([(str(name), tuple(rows))], thresholds, out, resamples, seed)


@app.command()
def marks(
    root: Annotated[Path, typer.Argument(help="Folder in which BUS-BRA was unpacked.")],
    out: Annotated[Path, typer.Option(help="Folder for marks.parquet.")],
    bundles: Bundles = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 2,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 1,
) -> None:
    """Paint callipers and text on 200 training pictures and measure how far the answers move."""
    with _border():
        from models.runtime.loaded import load_models

        records = choose([one for one in read_busbra(root) if one.fold in DEVELOPMENT_FOLDS], seed)
        models = load_models(bundles, threads)
        changes = list(
            track(compare(records, models, seed), "with and without marks", len(records) * len(Placement))
        )
        write_rows([asdict(change) for change in changes], out / "marks.parquet")
        for placement in Placement:
            chosen = [change for change in changes if change.placement == placement.value]
            for column, limit in (("probability", MAXIMUM_PROBABILITY_CHANGE), ("dice", MAXIMUM_DICE_CHANGE)):
                mean, interval = mean_change(chosen, column, resamples, seed)
                verdict = "met" if mean < limit else "missed"
                typer.echo(
                    f"callipers {placement.value}: mean absolute change of {column} {mean:.4f} "
                    f"({interval.low:.4f} to {interval.high:.4f}), n = {len(chosen)} pictures; "
                    f"target under {limit}: {verdict}"
                )
        typer.echo(f"{RESEARCH_USE}.")


@app.command()
def views(
    root: Annotated[Path, typer.Argument(help="Folder in which BUS-BRA was unpacked.")],
    bundles: Bundles = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 2,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 1,
) -> None:
    """How well two views of one lesion are told from views of two, on pictures of folds 1-4."""
    with _border():
        from models.runtime.loaded import load_models

        records = [one for one in read_busbra(root) if one.fold in DEVELOPMENT_FOLDS]
        model = load_models(bundles, threads).lesion
        pairs = pairs_of(list(looks_of(track(records, f"{len(records)} images"), model)), seed)
        weights, intercept = fit(pairs)
        typer.echo(f"weights {', '.join(f'{weight:.1f}' for weight in weights)}; intercept {intercept:.1f}")
        held_out = cross_validated(pairs)
        interval = bootstrap_by_patient(
            lambda rows: empirical_auc(held_out[rows], pairs.same[rows]), pairs.patient, resamples=resamples
        )
        typer.echo(
            f"fitted anew, cross-validated: AUC {empirical_auc(held_out, pairs.same):.3f} "
            f"({interval.low:.3f} to {interval.high:.3f}), n = {int(pairs.same.sum())} patients' pairs of "
            f"one lesion and {int((~pairs.same).sum())} of two"
        )
        scores = pairs.differences @ WEIGHTS + INTERCEPT
        for name, threshold in (("joined", SAME), ("not called two", OTHER)):
            same, other = (
                wilson(int((scores[kind] >= threshold).sum()), int(kind.sum()))
                for kind in (pairs.same, ~pairs.same)
            )
            typer.echo(
                f"{name} (score of the product at least {threshold:g}): of one lesion {same.value:.3f} "
                f"({same.interval.low:.3f} to {same.interval.high:.3f}), of two {other.value:.3f} "
                f"({other.interval.low:.3f} to {other.interval.high:.3f})"
            )
        typer.echo(f"{RESEARCH_USE}.")


@app.command()
def gate(
    root: Annotated[Path, typer.Argument(help="Folder in which BUS-BRA was unpacked.")],
    out: Annotated[Path, typer.Option(help="Folder for gate.parquet and gate.html.")],
    far: Annotated[list[Path] | None, typer.Option(help="Folder of pictures that are no ultrasound.")] = None,
    other_organ: Annotated[
        list[Path] | None, typer.Option(help="Folder of ultrasound of other organs: pictures or DICOM.")
    ] = None,
    bundles: Bundles = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the varied copies.")] = 1,
) -> None:
    """Measure what is set aside: breast frames held out by fold and device, what is far, other organs."""
    with _border():
        from models.runtime.loaded import load_models
        from validation import gate as measured
        from validation.gate_report import show, write_gate_report

        models = load_models(bundles, threads)
        folders = [("far", folder) for folder in far or ()]
        folders += [("other organ", folder) for folder in other_organ or ()]
        verdicts = measured.all_verdicts(read_busbra(root), folders, models.lesion, seed)
        write_rows([measured.row_of(one) for one in verdicts], out / "gate.parquet")
        found = measured.shares(verdicts)
        report = write_gate_report(found, models.bundles[0], out)
        for line in show(found):
            typer.echo(line)
        typer.echo(f"Report: {report}")
        typer.echo(f"{RESEARCH_USE}.")


@app.command()
def generator(
    folder: Annotated[Path, typer.Argument(help="Folder that a measuring verb of busmap generator wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.html and figures.json (default: none is written).")
    ] = None,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 1,
) -> None:
    """Judge a generator by its studies, as docs/protocol-generator.md states beforehand."""
    with _border():
        sections = sections_of(folder, resamples, seed)
        console = Console()
        for section in sections:
            for table in section.tables:
                shown = Table(*table.titles, title=table.caption)
                for row in table.rows:
                    shown.add_row(*row)
                console.print(shown)
        facts = {"resamples": resamples, "seed": seed}
        if out is None:
            console.print("Report and rows for a log: with --out FOLDER")
        else:
            report, _ = write_generator_report(sections, facts, out)
            console.print(f"Report: {report}", soft_wrap=True)
        console.print(f"{RESEARCH_USE}.")


@app.command()
def callipers(
    root: Annotated[Path, typer.Argument(help="Folder in which BUS-BRA was unpacked.")],
    bundles: Bundles = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 2,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 1,
) -> None:
    """How many burnt-in callipers are found: painted ones, and real ones marked by eye."""
    with _border():
        from models.runtime.loaded import load_marks, marks_bundle

        labels = read_labels()
        records = [one for one in read_busbra(root) if one.fold in JUDGED_FOLDS]
        judged = judged_records(records, labels)
        model = load_marks(marks_bundle(bundles), threads)
        real = list(track(find_real(judged, labels, model), "real callipers", len(judged)))
        chosen = choose(records, seed)
        painted = track(find_painted(chosen, model, seed), "painted callipers", len(chosen))
        for source, found in (
            ("real", [one for _, picture in real for one in picture]),
            ("painted", [one for picture in painted for one in picture]),
        ):
            for line in recall_lines(source, found, resamples, seed):
                typer.echo(line)
        typer.echo(area_line([area for area, _ in real]))
        typer.echo(f"{RESEARCH_USE}.")


def _judge_and_show(
    loaded: Sequence[tuple[str, Sequence[Prediction]]],
    thresholds: Thresholds | None,
    out: Path | None,
    resamples: int,
    seed: int,
) -> None:
    console = Console()
    judged = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("resampling patients", total=len(loaded))
        for name, rows in loaded:
            judged.append((judge(name, rows, thresholds, resamples=resamples, seed=seed), rows))
            progress.advance(task)
    for judgement, _ in judged:
        console.print(_table(judgement))
        for note in judgement.everything.notes:
            console.print(f"Note: {note}")
    if thresholds is None:
        console.print(
            "No operating points: give --threshold-sensitive and --threshold-specific, or --bundles"
        )
    if out is not None:
        report, _ = write_report(Run(judged, thresholds, resamples, seed), out)
        console.print(f"Report: {report}", soft_wrap=True)
    console.print(f"{RESEARCH_USE}.")


def _table(judgement: Judgement) -> Table:
    table = Table("figure", "all images", "found images only", title=judgement.name)
    beside = dict(rows_of(judgement.found_only)) if judgement.found_only else {}
    for name, shown in rows_of(judgement.everything):
        table.add_row(name, shown, beside.get(name, "-"))
    for device, figures in judgement.devices.items():
        by_name = dict(rows_of(figures))
        small = " (n too small)" if figures.notes else ""
        table.add_row(f"AUC, {device}", by_name["AUC (DeLong, logit scale)"] + small, "")
        table.add_row(f"Dice, {device}", by_name["Dice"], "")
    return table


def _thresholds(sensitive: float | None, specific: float | None, bundles: Path | None) -> Thresholds | None:
    """Those given, else the bundle's, else none."""
    if sensitive is not None and specific is not None:
        return Thresholds(sensitive, specific)
    if sensitive is not None or specific is not None:
        raise typer.BadParameter("give --threshold-sensitive and --threshold-specific together")
    folder = (bundles or SHIPPED) / "breast_us_diagnosis"
    if bundles is None and not folder.is_dir():
        return None
    points = read_bundle(folder).fact("operating_points")
    return Thresholds(float(points["sensitive_logit"]), float(points["specific_logit"]))


@contextmanager
def _border() -> Iterator[None]:
    """Errors made on purpose end as one line and their own exit status."""
    try:
        yield
    except OSError as error:
        typer.echo(
            f"busmap validate: {error.filename or 'a file'} cannot be written or read "
            f"({error.strerror or error}): give another folder with --out",
            err=True,
        )
        raise typer.Exit(_OUTPUT_STATUS) from None
    except (ValueError, RuntimeError) as error:
        status = getattr(error, "exit_status", None)  # only errors raised on purpose carry one
        if not isinstance(status, int):
            raise
        typer.echo(f"busmap validate: {error}", err=True)
        raise typer.Exit(status) from None
