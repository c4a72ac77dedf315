"""The report's part on privacy: files read and judged, as tables and plots."""

from __future__ import annotations

from pathlib import Path

from validation.generator.duplicates import NOTE, duplicates_table
from validation.generator.files import PrivacyFacts, read_columns, read_facts
from validation.generator.privacy import MEMBERSHIP_BOUND, WAYS, Privacy, membership_scores, privacy_figures
from validation.generator.report import Section, Table
from validation.generator.shown import ABSENT, area, number
from validation.plots import roc_plot, share_plot
from validation.statistics.proportions import Proportion
from validation.statistics.roc import roc_curve


def judge_privacy(folder: Path, resamples: int, seed: int) -> Section:
    """The report's part on privacy.

    Raises
    ------
    PredictionError
        A file is missing or cannot be judged.
    """
    facts = read_facts(folder / "privacy.json", PrivacyFacts)
    distances = ("kind", "pixel_distance", "feature_distance")
    patients = ("pixel_patient", "feature_patient", "mask_patient")
    near = read_columns(folder / "neighbours.parquet", ("id", *distances, *patients), "privacy")
    twins = read_columns(folder / "twins.parquet", ("first", "second", *distances), "privacy")
    losses = ("part", "image_id", "patient_id", "loss")
    member = read_columns(folder / "membership.parquet", losses, "privacy")
    figures = privacy_figures(near, twins, member, facts, resamples=resamples, seed=seed)
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
    scores, members = membership_scores(member, "other", seed)
    plots.append(
        roc_plot("Membership by the flow's loss", [("members against others", roc_curve(scores, members))])
    )
    return Section("privacy", figures, _tables(figures), _NOTES, plots)


_NOTES = (
    "A generated picture is a copy where it is nearer to a picture of the folds learned from (patients set "
    "aside among them) than the first percentile of what real pictures of other patients are: 1% of real "
    "pictures are so by construction.",
    NOTE,
    "Retrieval compares the patient of the nearest picture with the patient whose outline is most like the "
    "one asked for; masks are drawn from a prior and belong to no patient. Outlines and pictures go together "
    "in real pictures as well: their share stands beside.",
)


def _share(one: Proportion) -> str:
    return f"{number(one.value, one.interval, 4)}, {one.count} of {one.total}"


_VERDICT = {True: "passed", False: "missed"}


def _tables(figures: Privacy) -> list[Table]:
    sampling = [
        ("draws thrown away for being too near", str(figures.rejected)),
        ("epochs trained", ABSENT if figures.epochs is None else f"{figures.epochs:g}"),
    ]
    return [
        _copies(figures),
        duplicates_table(figures.duplicates),
        _rejections(figures),
        _retrieval(figures),
        _membership(figures),
        Table("Sampling", ("figure", "value"), sampling),
    ]


def _copies(figures: Privacy) -> Table:
    rows = []
    for way, one in figures.copies.items():
        medians = f"{one.median:.3f} / {one.median_of_real:.3f}"
        both = f"{one.with_threshold.low:.4f} to {one.with_threshold.high:.4f}"
        share = _share(one.count)
        rows.append((f"by {way}s", share, both, f"{one.threshold:.4f}", medians, _VERDICT[one.passed]))
    titles = (
        "copies",
        "share (Wilson)",
        "both sets resampled (pictures; patients)",
        "threshold",
        "median distance, generated / real",
        "at most 1%",
    )
    return Table(f"Copies: {figures.generated} generated pictures, {figures.real} real ones", titles, rows)


def _rejections(figures: Privacy) -> Table:
    rows = [
        (
            f"nearer than {one.quantile:.0%} of real ones",
            f"{one.distance:.4f}",
            _share(one.thrown_away),
            *(_share(one.copies[way]) for way in WAYS),
        )
        for one in figures.rejections
    ]
    titles = (
        "thrown away",
        "distance by pixels",
        "share thrown away (Wilson)",
        "copies by pixels (Wilson)",
        "by features (Wilson)",
    )
    caption = "Had sampling kept further away: of the same pictures, thrown away and copies left"
    return Table(caption, titles, rows)


def _retrieval(figures: Privacy) -> Table:
    rows = [
        (
            f"{name}, by {way}s",
            number(one.share.value, one.share.interval),
            f"{one.chance:.3f}",
            f"{one.p:.3f}",
        )
        for way, group in figures.retrieval.items()
        for name, one in group.items()
    ]
    caption = "Retrieval of the patient (generated: Wilson; real: patients resampled)"
    return Table(caption, ("pictures", "share", "by chance", "p (permutation)"), rows)


def _membership(figures: Privacy) -> Table:
    compared = [("members against patients of the other half", figures.membership)]
    if figures.aside is not None:
        compared.append(("members against patients set aside", figures.aside))
    return Table(
        f"Membership inference by the flow's loss (bound {MEMBERSHIP_BOUND})",
        ("comparison", "AUC by patient (DeLong, logit scale)", "patients of each", "upper bound below"),
        [(name, area(one.auc), str(one.auc.positives), _VERDICT[one.passed]) for name, one in compared],
    )
