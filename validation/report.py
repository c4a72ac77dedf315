"""The validation report: one HTML file that stands alone, and the same figures as JSON.

Promises: every figure shown has its interval and its n; nothing is fetched when the page is opened; both
files appear whole or not at all. Refuses to leave out the line "Research use, not a cleared device".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from models.data.prediction import Prediction
from validation.figures import Estimate, Figures, Judgement, Thresholds, patients_of
from validation.plots import pair_plot, reliability_plot, roc_plot
from validation.reliability import PairBin
from validation.statistics.interval import Interval
from validation.statistics.proportions import Proportion
from validation.statistics.roc import roc_curve

RESEARCH_USE = "Research use, not a cleared device"
DEVICE_TITLES = ("device", "images", "patients", "malignant", "AUC", "Dice", "found", "notes")
PAIR_TITLES = ("bin", "probability (Venn-Abers pair), means", "share malignant (Wilson)", "they meet")
_ABSENT = "-"


@dataclass(frozen=True)
class Run:
    """What a report is made from: the judged files with their rows, and how they were judged."""

    judged: Sequence[tuple[Judgement, Sequence[Prediction]]]
    thresholds: Thresholds | None
    resamples: int
    seed: int


def rows_of(figures: Figures) -> tuple[tuple[str, str], ...]:
    """Names and values of all figures, as a reader sees them."""
    area, line = figures.auc, figures.calibration
    rows = [
        ("images", str(figures.images)),
        ("patients (malignant)", f"{figures.patients} ({figures.malignant})"),
        ("AUC (DeLong, logit scale)", _ABSENT if area is None else _number(area.auc, area.logit)),
        (
            "AUC (bootstrap by patient)",
            _ABSENT if area is None else _number(area.auc, figures.auc_bootstrap),
        ),
        ("AUC by mean probability", _plain(figures.auc_of_probability)),
        ("Dice", _estimate(figures.dice)),
        ("lesion found, of images with one", _estimate(figures.found)),
        ("nothing marked, of images without a lesion", _estimate(figures.nothing_marked)),
        ("abstained, of images", _estimate(figures.abstained)),
    ]
    for name, point in (("sensitive", figures.at_sensitive), ("specific", figures.at_specific)):
        shown = (_ABSENT, _ABSENT)
        if point is not None:
            shown = (_proportion(point.sensitivity), _proportion(point.specificity))
        rows.append((f"sensitivity at the {name} threshold", shown[0]))
        rows.append((f"specificity at the {name} threshold", shown[1]))
    rows.append(("Brier score", _plain(figures.brier)))
    slope = _ABSENT if line is None or line.slope is None else _number(line.slope, line.slope_interval)
    large = _ABSENT if line is None else _number(line.in_the_large, line.in_the_large_interval)
    rows += [("calibration slope", slope), ("calibration in the large", large)]
    return tuple(rows)


def figures_of(run: Run) -> dict[str, Any]:
    """Everything computed, as plain values for JSON."""
    return {
        "notice": RESEARCH_USE,
        "busmap_version": version("busmap"),
        "resamples": run.resamples,
        "seed": run.seed,
        "thresholds": None if run.thresholds is None else asdict(run.thresholds),
        "files": [asdict(judgement) for judgement, _ in run.judged],
    }


def write_report(run: Run, folder: Path) -> tuple[Path, Path]:
    """Write `report.html` and `figures.json` into `folder`, and return their paths.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    figures = json.dumps(figures_of(run), indent=1, allow_nan=False)
    html = (
        environment(Path(__file__).parent)
        .get_template("report.html.j2")
        .render(
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=version("busmap"),
            resamples=run.resamples,
            seed=run.seed,
            sections=[_section(judgement, rows) for judgement, rows in run.judged],
            device_titles=DEVICE_TITLES,
            pair_titles=PAIR_TITLES,
            figures_json=for_script(figures),
        )
    )
    return write_page(html, figures, folder)


def for_script(figures: str) -> Markup:
    """JSON as the content of a script element, which only "</" would end."""
    return Markup(figures.replace("</", "<\\/"))  # noqa: S704


def write_page(html: str, figures: str, folder: Path) -> tuple[Path, Path]:
    """Write `report.html` and `figures.json`, each whole or not at all, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "report.html", folder / "figures.json"
    for path, text in zip(paths, (html, figures + "\n"), strict=True):
        unfinished = path.with_suffix(path.suffix + ".partial")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    return paths


def environment(folder: Path) -> Environment:
    """Templates of `folder`: what comes from outside is escaped, what is missing is an error."""
    return Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)


def _section(judgement: Judgement, rows: Sequence[Prediction]) -> dict[str, Any]:
    without = judgement.found_only
    beside = dict(rows_of(without)) if without else {}
    return {
        "judgement": judgement,
        "rows": [(name, shown, beside.get(name, _ABSENT)) for name, shown in rows_of(judgement.everything)],
        "plots": _plots(judgement, rows),
        "pairs": [_pair(number, item) for number, item in enumerate(judgement.pairs, start=1)],
        "devices": [_device(name, figures) for name, figures in judgement.devices.items()],
    }


def _plots(judgement: Judgement, rows: Sequence[Prediction]) -> list[Markup]:
    plots = []
    curves = []
    groups = (
        ("all images", judgement.everything, rows),
        ("found images only", judgement.found_only, [row for row in rows if row.found]),
    )
    for label, figures, chosen in groups:
        if figures is not None and figures.auc is not None:
            patients = patients_of(chosen)
            curve = roc_curve(
                np.array([patient.score for patient in patients]),
                np.array([patient.malignant for patient in patients]),
            )
            curves.append((f"{label}: AUC {figures.auc.auc:.3f}", curve))
    if curves:
        plots.append(roc_plot(f"ROC, {judgement.name}", curves))
    if judgement.everything.reliability:
        plots.append(reliability_plot(f"Reliability, {judgement.name}", judgement.everything.reliability))
    if judgement.pairs:
        plots.append(pair_plot(f"Venn-Abers pairs, {judgement.name}", judgement.pairs))
    return plots


def _device(name: str, figures: Figures) -> tuple[str, ...]:
    area = figures.auc
    return (
        name,
        str(figures.images),
        str(figures.patients),
        str(figures.malignant),
        _ABSENT if area is None else _number(area.auc, area.logit),
        _estimate(figures.dice),
        _estimate(figures.found),
        "; ".join(figures.notes),
    )


def _pair(number: int, item: PairBin) -> tuple[str, ...]:
    share = f"{_number(item.observed, item.interval)}, {item.malignant} of {item.count}"
    pair = f"{item.stated:.3f} ({item.low:.3f} to {item.high:.3f})"
    return (str(number), pair, share, "yes" if item.covered else "no")


def _plain(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.3f}"


def _number(value: float, interval: Interval | None) -> str:
    return f"{value:.3f}" + (f" ({interval.low:.3f} to {interval.high:.3f})" if interval else "")


def _estimate(estimate: Estimate | None) -> str:
    return (
        _ABSENT if estimate is None else f"{_number(estimate.value, estimate.interval)}, n {estimate.images}"
    )


def _proportion(share: Proportion) -> str:
    return f"{_number(share.value, share.interval)}, {share.count} of {share.total}"
