"""The confirmation judged: areas of the named arms on patients that nothing was chosen by.

Promises: figures for each set, none over sets together; a row for docs/heldout-log.md that says what was
scored with which weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from validation.generator.files import (
    SCORES,
    Columns,
    ConfirmFacts,
    check_scores,
    read_columns,
    read_facts,
)
from validation.generator.report import Section, Table
from validation.generator.shown import ABSENT, area, number
from validation.generator.usefulness import MARGIN, REFERENCE, patients_of
from validation.plots import roc_plot
from validation.predictions import PredictionError
from validation.statistics.proportions import Proportion
from validation.statistics.roc import (
    Auc,
    OperatingPoint,
    PairedTest,
    auc_with_interval,
    operating_point,
    paired_delong,
    roc_curve,
)

ROW = "heldout-log.md"
_WHOLE = "give the folder of busmap generator confirm, whole"
SENSITIVITY = 0.95  # of the frozen threshold, where it is frozen


@dataclass(frozen=True)
class ConfirmedArm:
    """An arm: area, its difference to the real one (None for itself), and what its frozen threshold gives."""

    auc: Auc
    against_real: PairedTest | None
    at_frozen: OperatingPoint


@dataclass(frozen=True)
class Confirmation:
    """Figures by set and arm; patients and malignant ones of each set."""

    sets: Mapping[str, Mapping[str, ConfirmedArm]]
    patients: Mapping[str, tuple[int, int]]


def judge_confirmation(folder: Path) -> Section:
    """The report's part on the confirmation.

    Raises
    ------
    PredictionError
        A file is missing or cannot be judged.
    """
    facts = read_facts(folder / "confirm.json", ConfirmFacts)
    thresholds = _thresholds(folder / "frozen.parquet")
    path, by_set, plots = folder / "confirm.parquet", {}, []
    rows = read_columns(path, (*SCORES, "set", "logit"), "confirm")
    for name in dict.fromkeys(rows["set"].tolist()):
        own = {key: values[rows["set"] == name] for key, values in rows.items()}
        check_scores(path, own, "confirm")
        if REFERENCE not in own["arm"]:
            raise PredictionError(f"{path}: {name} lacks the arm {REFERENCE}: {_WHOLE}")
        if name not in facts["sets"]:
            raise PredictionError(f"{folder / 'confirm.json'} says nothing of {name}: {_WHOLE}")
        for arm in own["arm"].tolist():
            if arm not in thresholds:
                raise PredictionError(f"{folder / 'frozen.parquet'} lacks the arm {arm}: {_WHOLE}")
        by_set[name] = own
        people = patients_of(own, "logit")
        curves = [(arm, roc_curve(score, people.malignant)) for arm, score in people.scores.items()]
        plots.append(roc_plot(name, curves))
    figures = confirmation_figures(by_set, thresholds)
    row = log_rows(figures, facts)
    return Section("confirmation", figures, _tables(figures), _NOTES, plots, {ROW: row})


def _thresholds(path: Path) -> dict[str, float]:
    """Of each arm the highest threshold with at least 95% sensitivity on the patients judged in the study."""
    rows = read_columns(path, (*SCORES, "logit"), "confirm")
    check_scores(path, rows, "confirm")
    people = patients_of(rows, "logit")
    if not people.malignant.any():
        raise PredictionError(f"{path} holds no malignant patient: run busmap generator study anew")
    return {
        arm: float(np.quantile(score[people.malignant], 1 - SENSITIVITY, method="lower"))
        for arm, score in people.scores.items()
    }


def confirmation_figures(by_set: Mapping[str, Columns], thresholds: Mapping[str, float]) -> Confirmation:
    """All figures, from the rows of each set; thresholds of the arms come from elsewhere."""
    figures, counts = {}, {}
    for name, rows in by_set.items():
        people = patients_of(rows, "logit")
        truth, base = people.malignant, people.scores[REFERENCE]
        figures[name] = {
            arm: ConfirmedArm(
                auc_with_interval(score, truth),
                None if arm == REFERENCE else paired_delong(score, base, truth),
                operating_point(score, truth, thresholds[arm]),
            )
            for arm, score in people.scores.items()
        }
        counts[name] = len(truth), int(truth.sum())
    return Confirmation(figures, counts)


def log_rows(figures: Confirmation, facts: Mapping[str, Any]) -> str:
    """A row of docs/heldout-log.md for each set."""
    weights = ", ".join(f"{name} {digest[:12]}" for name, digest in facts["weights"].items())
    lines = []
    for name, arms in figures.sets.items():
        patients, malignant = figures.patients[name]
        said = "; ".join(
            f"{arm} AUC {_to(one.auc)}, sensitivity {_share(one.at_frozen.sensitivity)}, specificity "
            f"{_share(one.at_frozen.specificity)}"
            + ("" if one.against_real is None else f", minus {REFERENCE} {_difference(one.against_real)}")
            for arm, one in arms.items()
        )
        left = facts["sets"][name]["left_out_without_lesion"]
        beside = f", {left} without a lesion left out" if left else ""
        lines.append(
            f"| {facts['day']} | arms of the study of generated pictures: {weights} | {name}, "
            f"{patients} patients ({malignant} malignant){beside} | `busmap generator confirm` | {said} | "
            "confirmation named in protocol-generator.md |"
        )
    return "\n".join(lines) + "\n"


def _to(auc: Auc) -> str:
    return number(auc.auc, auc.logit)


def _share(share: Proportion) -> str:
    return f"{number(share.value, share.interval)}, {share.count} of {share.total}"


def _difference(paired: PairedTest) -> str:
    return number(paired.difference, paired.interval)


_NOTES = (
    "Scored once, on annotated outlines; a patient's score is the mean logit over images and seeds. "
    f"Described beside the primary test of the study (margin -{MARGIN}), not instead of it. Rows for "
    f"docs/heldout-log.md: {ROW} beside this report.",
    f"Sensitivity and specificity at a threshold of each arm that was frozen beforehand: the highest with a "
    f"sensitivity of at least {SENSITIVITY:.0%} on the patients that the study judged (the half that no arm "
    "learned from), who are in neither set.",
)


def _tables(figures: Confirmation) -> list[Table]:
    tables = []
    for name, arms in figures.sets.items():
        patients, malignant = figures.patients[name]
        rows = [
            (
                arm,
                area(one.auc),
                ABSENT if one.against_real is None else _difference(one.against_real),
                _share(one.at_frozen.sensitivity),
                _share(one.at_frozen.specificity),
            )
            for arm, one in arms.items()
        ]
        caption = f"{name}: n {patients} patients, {malignant} malignant"
        heads = (
            "arm",
            "AUC (DeLong, logit scale)",
            f"minus {REFERENCE} (paired DeLong)",
            "sensitivity (Wilson, patients)",
            "specificity (Wilson, patients)",
        )
        tables.append(Table(caption, heads, rows))
    return tables
