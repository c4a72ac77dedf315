"""The report's part on usefulness: tables of the figures of a study."""

from __future__ import annotations

from collections.abc import Mapping

from validation.figures import FEW
from validation.generator.report import Section, Table
from validation.generator.shown import ABSENT, area, estimate, number
from validation.generator.usefulness import MARGIN, REFERENCE, Usefulness

AREA = "AUC (DeLong, logit scale)"


def usefulness_section(figures: Usefulness) -> Section:
    """The report's part on usefulness."""
    n = f"n {figures.patients} patients, {figures.malignant} malignant"
    tables = [_sequence(figures), _arms(figures, n), _devices(figures)]
    if figures.slope is not None:
        tables.append(_slope(figures))
    if figures.shortcut:
        rows = [(arm, area(auc)) for arm, auc in figures.shortcut.items()]
        nearer = f"nearer to 0.5 than {REFERENCE} by (patients resampled)"
        rows.append((nearer, estimate(figures.shortcut_nearer)))
        tables.append(Table(f"Shortcut probe: AUC of the background alone, {n}", ("arm", AREA), rows))
    if figures.dice:
        tables.append(
            Table(
                "Segmentation: mean Dice over images (patients resampled)",
                ("arm", "Dice", f"minus {REFERENCE}"),
                [(arm, estimate(one.mean), estimate(one.against_real)) for arm, one in figures.dice.items()],
            )
        )
    notes = (
        "Protocol: docs/protocol-generator.md. A patient's score is the mean logit over images and seeds, on "
        "annotated outlines. A missed proof of non-inferiority is no proof of a loss.",
        *(f"Left out, as a seed of it is not there yet: {arm}." for arm in figures.unfinished),
    )
    return Section("usefulness", figures, tables, notes)


def _sequence(figures: Usefulness) -> Table:
    words: Mapping[bool | None, str] = {True: "shown", False: "not shown", None: "not computed: arms missing"}
    rows = [(step.name, words[step.shown] if step.tested else "not tested") for step in figures.sequence]
    if figures.primary is not None:
        test, paired = figures.primary, figures.primary.paired
        shown = number(paired.difference, paired.interval, 4)
        rows.insert(
            0,
            (
                "primary: difference of AUC (paired DeLong)",
                f"{shown}, margin -{MARGIN}, p (one-sided) {test.p:.4f}",
            ),
        )
    return Table("Tests, in their fixed order", ("test", "outcome"), rows)


def _arms(figures: Usefulness, n: str) -> Table:
    rows = []
    for arm, one in figures.arms.items():
        beside = one.against_real
        rows.append(
            (
                arm,
                area(one.auc),
                ABSENT
                if beside is None
                else f"{number(beside.difference, beside.interval)}, p {beside.p:.3f}",
            )
        )
    titles = ("arm", AREA, f"minus {REFERENCE} (paired DeLong)")
    return Table(f"Arms, {n}; differences other than the tests above are described", titles, rows)


def _devices(figures: Usefulness) -> Table:
    arms = tuple(figures.arms)
    rows = []
    for device, by_arm in figures.devices.items():
        count = str(figures.malignant_by_device[device])
        cells = ("n too small",) * len(arms) if by_arm is None else tuple(area(by_arm[arm]) for arm in arms)
        rows.append((device, count, *cells))
    caption = f"By device, {AREA}; below {FEW} patients of a class: n too small"
    return Table(caption, ("device", "malignant", *arms), rows)


def _slope(figures: Usefulness) -> Table:
    slope = figures.slope
    assert slope is not None
    rows = [
        (f"{size} generated", number(value)) for size, value in zip(slope.sizes, slope.areas, strict=True)
    ]
    rows.append(("AUC a decade (patients resampled)", estimate(slope.per_decade, 4)))
    stops = "within these sizes it does not" if slope.stops_after is None else f"{slope.stops_after} pictures"
    rows.append(("the next size is not higher after", stops))
    return Table("AUC over the number of generated pictures", ("size", "AUC"), rows)
