"""The stopping point: what each snapshot gives away of its patients, with intervals.

Promises: one loss a patient and snapshot, the same patients in each; the choice shown is the file's, whose
areas are checked against those computed anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from validation.generator.files import Columns, StopFacts, read_columns, read_facts
from validation.generator.report import Section, Table
from validation.generator.shown import ABSENT, area, number
from validation.plots import course_plot
from validation.predictions import PredictionError
from validation.statistics.roc import Auc, PairedTest, auc_with_interval, paired_delong


@dataclass(frozen=True)
class Snapshot:
    """Membership (members against patients set aside) after so many epochs, and its rise since the first.

    `aside_loss` is the mean loss of the patients set aside.
    """

    epochs: int
    membership: Auc
    rise: PairedTest | None
    aside_loss: float


@dataclass(frozen=True)
class Stopping:
    """Snapshots by epochs, and the epochs that were chosen (None: the first one fails the rule)."""

    snapshots: tuple[Snapshot, ...]
    chosen: int | None
    bound: float


def judge_stopping(folder: Path) -> Section:
    """The report's part on the stopping point.

    Raises
    ------
    PredictionError
        A file is missing or cannot be judged.
    """
    facts = read_facts(folder / "stop.json", StopFacts)
    rows = read_columns(folder / "stop.parquet", ("epochs", "part", "patient_id", "loss"), "stop")
    figures = stopping_figures(rows, facts)
    points = [
        (float(one.epochs), one.membership.auc, one.membership.logit.low, one.membership.logit.high)
        for one in figures.snapshots
    ]
    plot = course_plot("Membership over training", "epochs", "AUC of membership", points, figures.bound)
    return Section("stopping point", figures, [_table(figures)], _NOTES, [plot])


def stopping_figures(rows: Columns, facts: Mapping[str, Any]) -> Stopping:
    """All figures.

    Raises
    ------
    PredictionError
        Snapshots judged other patients than the first or patients of one kind, or stop.json speaks of others.
    """
    snapshots: list[Snapshot] = []
    first: np.ndarray[Any, Any] | None = None
    patients: list[str] = []
    for epochs in np.unique(rows["epochs"]):
        own = np.flatnonzero(rows["epochs"] == epochs)
        own = own[np.argsort(rows["patient_id"][own], kind="stable")]
        names, member = rows["patient_id"][own].tolist(), rows["part"][own] == "member"
        score = -rows["loss"][own]
        if first is None:
            first, patients = score, names
        if names != patients:
            raise PredictionError("snapshots judged different patients: run busmap generator stop anew")
        if member.all() or not member.any():
            raise PredictionError(
                "stop.parquet lacks patients learned from, or set aside: run busmap generator stop anew"
            )
        rise = None if score is first else paired_delong(score, first, member)
        loss = float(-score[~member].mean())
        snapshots.append(Snapshot(int(epochs), auc_with_interval(score, member), rise, loss))
    stated = {int(one["epochs"]): float(one["membership"]) for one in facts["epochs"]}
    if stated.keys() != {one.epochs for one in snapshots} or any(
        abs(stated[one.epochs] - one.membership.auc) > 1e-9 for one in snapshots
    ):
        raise PredictionError("stop.json and stop.parquet disagree: run busmap generator stop anew")
    return Stopping(tuple(snapshots), facts["chosen"], float(facts["rule"]["membership_below"]))


_NOTES = (
    "Rule, fixed beforehand: from the first snapshot on, as long as the area lies below the bound and the "
    "loss of those set aside is at most 1% above its least so far. The area is compared, not its interval: "
    "with so few patients set aside hardly an upper bound lies below 0.55 even where nothing is given away. "
    "What the generator gives away is tested on the other half (privacy).",
    "The area of the first snapshot is mostly chance, of who was set aside. What it has risen by since, in "
    "the same patients, is known more precisely: where its interval lies above 0 the flow has come to know "
    "those learned from better than others, whatever the area itself is.",
)


def _table(figures: Stopping) -> Table:
    rows = [
        (
            f"{one.epochs}{' (chosen)' if one.epochs == figures.chosen else ''}",
            area(one.membership),
            ABSENT if one.rise is None else number(one.rise.difference, one.rise.interval),
            number(one.aside_loss, digits=4),
        )
        for one in figures.snapshots
    ]
    first = figures.snapshots[0].membership
    caption = f"Membership by epochs: {first.positives} patients learned from, {first.negatives} set aside"
    titles = (
        "epochs",
        "AUC (DeLong, logit scale)",
        "since the first (paired DeLong)",
        "loss of those set aside",
    )
    return Table(caption, titles, rows)
