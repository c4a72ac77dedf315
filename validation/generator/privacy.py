"""What a generator gives away of the pictures it learned from.

Promises: every threshold comes from real pictures of patients it has not seen, so that real pictures
themselves pass at the rate stated; whole patients are told apart in membership, as many of one kind as of
the other. The controls of the tests (a planted copy, planted twins, a generator that knows its pictures by
heart) must raise these figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from validation.generator.files import Columns, PrivacyFacts, read_columns, read_facts
from validation.generator.report import Section, Table
from validation.generator.shown import ABSENT, area, number
from validation.plots import roc_plot, share_plot
from validation.predictions import PredictionError
from validation.statistics.roc import (
    RESAMPLES,
    Auc,
    Interval,
    Proportion,
    auc_with_interval,
    roc_curve,
    wilson,
)

BASELINE = 0.01  # share of real pictures that count as copies, by construction
MEMBERSHIP_BOUND = 0.55
PERMUTATIONS = 1000
REJECTIONS = (
    0.01,
    0.02,
    0.05,
    0.1,
)  # quantiles of real distances by pixels that sampling might keep away from
WAYS = ("pixel", "feature")


@dataclass(frozen=True)
class TooNear:
    """Generated pictures nearer than a percentile of real ones; `passed`: the lower bound is at most 1%.

    `with_threshold`: interval of the share by resampling both sets, as the threshold too is an estimate.
    """

    threshold: float
    count: Proportion
    with_threshold: Interval
    passed: bool
    median: float
    median_of_real: float


@dataclass(frozen=True)
class Retrieval:
    """How often the nearest picture is of the patient with the most similar outline, and by permutation."""

    share: Proportion
    chance: float
    p: float


@dataclass(frozen=True)
class Membership:
    """Area of (low) loss by patient, as many members as others; `passed`: the upper bound is below 0.55."""

    auc: Auc
    passed: bool


@dataclass(frozen=True)
class Rejection:
    """What sampling would have thrown away (further) at a distance by pixels, and the copies left.

    `quantile`: share of real pictures of other patients below that distance.
    """

    quantile: float
    distance: float
    thrown_away: Proportion
    copies: Mapping[str, Proportion]


@dataclass(frozen=True)
class Privacy:
    """All figures, by pixels and by features. `aside`: members against patients set aside in training."""

    generated: int
    real: int
    copies: Mapping[str, TooNear]
    rejections: Sequence[Rejection]
    duplicates: Mapping[str, TooNear]
    retrieval: Mapping[str, Mapping[str, Retrieval]]
    membership: Membership
    aside: Membership | None
    rejected: int
    epochs: float | None


def judge_privacy(folder: Path, seed: int) -> Section:
    """The report's part on privacy.

    Raises
    ------
    PredictionError
        A file is missing or cannot be judged.
    """
    facts = read_facts(folder / "privacy.json", PrivacyFacts)
    distances = ("kind", "pixel_distance", "feature_distance")
    patients = ("pixel_patient", "feature_patient", "mask_patient")
    near = read_columns(folder / "neighbours.parquet", (*distances, *patients), "privacy")
    twins = read_columns(folder / "twins.parquet", distances, "privacy")
    member = read_columns(folder / "membership.parquet", ("part", "patient_id", "loss"), "privacy")
    figures = privacy_figures(near, twins, member, facts, seed)
    plots = [
        share_plot(
            f"Distance to the nearest picture learned from, by {way}s",
            "distance",
            [
                (label, near[f"{way}_distance"][near["kind"] == kind].tolist())
                for label, kind in (("generated", "generated"), ("real, of other patients", "other"))
            ],
        )
        for way in WAYS
    ]
    scores, members = _scores(member, "other", seed)
    plots.append(
        roc_plot("Membership by the flow's loss", [("members against others", roc_curve(scores, members))])
    )
    return Section("privacy", figures, _tables(figures), _NOTES, plots)


def privacy_figures(
    near: Columns, twins: Columns, member: Columns, facts: Mapping[str, Any], seed: int
) -> Privacy:
    """All figures from the rows of the three files."""
    made = near["kind"] == "generated"
    sets = {"generated": made, "real": ~made}
    others = set(member["part"].tolist())
    if not {"member", "other"} <= others or not made.any() or made.all():
        raise PredictionError(
            "the measures lack generated or real pictures: run busmap generator privacy anew"
        )
    copies = {way: _too_near(near, made, way, seed) for way in WAYS}
    return Privacy(
        generated=int(made.sum()),
        real=int((~made).sum()),
        copies=copies,
        rejections=list(_rejections(near, made, copies)),
        duplicates={way: _too_near(twins, twins["kind"] == "generated", way, seed) for way in WAYS},
        retrieval={
            way: {
                name: _retrieval(near[f"{way}_patient"][own], near["mask_patient"][own], seed)
                for name, own in sets.items()
            }
            for way in WAYS
        },
        membership=_membership(member, "other", seed),
        aside=_membership(member, "aside", seed) if (member["part"] == "aside").any() else None,
        rejected=int(facts["rejected"]),
        epochs=facts["epochs"],
    )


def _too_near(rows: Columns, made: npt.NDArray[np.bool_], way: str, seed: int) -> TooNear:
    """Generated rows below the first percentile of the real ones."""
    values = rows[f"{way}_distance"]
    drawn, real = values[made], values[~made]
    threshold = float(np.quantile(real, BASELINE))
    count = wilson(int((drawn < threshold).sum()), len(drawn))
    random = np.random.default_rng(seed)
    shares = [
        float(
            (random.choice(drawn, len(drawn)) < np.quantile(random.choice(real, len(real)), BASELINE)).mean()
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(shares, [0.025, 0.975])
    both = Interval(float(low), float(high))
    passed = count.interval.low <= BASELINE
    return TooNear(threshold, count, both, passed, float(np.median(drawn)), float(np.median(real)))


def _rejections(
    near: Columns, made: npt.NDArray[np.bool_], copies: Mapping[str, TooNear]
) -> Iterator[Rejection]:
    """The same pictures, had those nearer by pixels than a quantile of real ones been thrown away."""
    distances = near["pixel_distance"]
    for quantile in REJECTIONS:
        least = float(np.quantile(distances[~made], quantile))
        kept = made & (distances >= least)
        if not kept.any():
            return
        left = {
            way: wilson(int((near[f"{way}_distance"][kept] < one.threshold).sum()), int(kept.sum()))
            for way, one in copies.items()
        }
        yield Rejection(quantile, least, wilson(int((made & ~kept).sum()), int(made.sum())), left)


def _retrieval(found: npt.NDArray[Any], asked: npt.NDArray[Any], seed: int) -> Retrieval:
    random = np.random.default_rng(seed)
    hits = int((found == asked).sum())
    shuffled = np.array([(random.permutation(found) == asked).sum() for _ in range(PERMUTATIONS)])
    p = (1 + int((shuffled >= hits).sum())) / (1 + PERMUTATIONS)
    return Retrieval(wilson(hits, len(found)), float(shuffled.mean() / len(found)), p)


def _scores(rows: Columns, against: str, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Score (minus the mean loss) and membership of as many patients of both kinds, drawn by the seed."""
    random = np.random.default_rng(seed)
    means = []
    for part in ("member", against):
        own = rows["part"] == part
        _, place = np.unique(rows["patient_id"][own], return_inverse=True)
        means.append(np.bincount(place, weights=rows["loss"][own]) / np.bincount(place))
    count = min(len(part) for part in means)
    drawn = [random.choice(part, count, replace=False) for part in means]
    return -np.concatenate(drawn), np.arange(2 * count) < count


def _membership(rows: Columns, against: str, seed: int) -> Membership:
    auc = auc_with_interval(*_scores(rows, against, seed))
    return Membership(auc, auc.logit.high < MEMBERSHIP_BOUND)


_NOTES = (
    "A generated picture is too near where it is nearer to a picture learned from than the first percentile "
    "of what real pictures of other patients are: 1% of real pictures are so by construction.",
    "Retrieval compares the patient of the nearest picture with the patient whose outline is most like the "
    "one asked for; masks are drawn from a prior and belong to no patient. Outlines and pictures go together "
    "in real pictures as well: their share stands beside.",
)


def _share(one: Proportion) -> str:
    return f"{number(one.value, one.interval, 4)}, {one.count} of {one.total}"


def _tables(figures: Privacy) -> list[Table]:
    verdict = {True: "passed", False: "missed"}
    rows = []
    for name, group in (("copies", figures.copies), ("duplicates within the set", figures.duplicates)):
        for way, one in group.items():
            share = _share(one.count)
            medians = f"{one.median:.3f} / {one.median_of_real:.3f}"
            both = f"{one.with_threshold.low:.4f} to {one.with_threshold.high:.4f}"
            rows.append(
                (f"{name}, by {way}s", share, both, f"{one.threshold:.4f}", medians, verdict[one.passed])
            )
    titles = (
        "figure",
        "share (Wilson)",
        "both sets resampled",
        "threshold",
        "median distance, generated / real",
        "at most 1%",
    )
    near = Table(f"Too near: {figures.generated} generated pictures, {figures.real} real ones", titles, rows)
    retrieval = [
        (
            f"{name}, by {way}s",
            number(one.share.value, one.share.interval),
            f"{one.chance:.3f}",
            f"{one.p:.3f}",
        )
        for way, group in figures.retrieval.items()
        for name, one in group.items()
    ]
    member = [("members against patients of the other half", figures.membership)]
    if figures.aside is not None:
        member.append(("members against patients set aside", figures.aside))
    stricter = [
        (
            f"nearer than {one.quantile:.0%} of real ones",
            f"{one.distance:.4f}",
            _share(one.thrown_away),
            *(_share(one.copies[way]) for way in WAYS),
        )
        for one in figures.rejections
    ]
    return [
        near,
        Table(
            "Had sampling kept further away: of the same pictures, thrown away and copies left",
            ("thrown away", "distance by pixels", "share thrown away", "copies by pixels", "by features"),
            stricter,
        ),
        Table("Retrieval of the patient", ("pictures", "share", "by chance", "p"), retrieval),
        Table(
            f"Membership inference by the flow's loss (bound {MEMBERSHIP_BOUND})",
            ("comparison", "AUC", "patients of each", "upper bound below"),
            [(name, area(one.auc), str(one.auc.positives), verdict[one.passed]) for name, one in member],
        ),
        Table(
            "Sampling",
            ("figure", "value"),
            [
                ("draws thrown away for being too near", str(figures.rejected)),
                ("epochs trained", ABSENT if figures.epochs is None else f"{figures.epochs:g}"),
            ],
        ),
    ]
