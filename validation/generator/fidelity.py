"""How true to life generated pictures are, against what real pictures are to each other.

Promises: every comparison of features is made on ten random halves of like size, so that numbers of pictures
do not decide; beside each stands real against real. The features are ImageNet's EfficientNet-Lite0 and an
outlining net's: values do not compare with published ones, which are Inception's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from models.generation.distances import fid, kid, precision_recall
from validation.generator.files import Columns, read_columns, read_facts
from validation.generator.report import Section, Table
from validation.generator.shown import area, estimate, number
from validation.generator.usefulness import Estimate
from validation.plots import share_plot
from validation.predictions import PredictionError
from validation.statistics.roc import (
    Auc,
    Interval,
    Proportion,
    auc_with_interval,
    bootstrap_by_patient,
    wilson,
)

DICE_TARGET = 0.80
SUBSETS = 10
NETWORKS: Mapping[str, str] = {"imagenet": "ImageNet's encoder", "outline": "outlining net of the other half"}
SETS = ("generated", "learned", "other")
PAIRS = (("generated", "learned"), ("generated", "other"), ("other", "learned"))
_STATISTICS: Mapping[str, str] = {
    "shape": "Nakagami shape",
    "down": "half-width down, px",
    "across": "half-width across, px",
}


@dataclass(frozen=True)
class Distance:
    """Mean over the subsets, and the least and greatest of them."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Likeness:
    """Of `size` against `size` pictures: the first set is the one judged, the second the reference."""

    size: int
    kid: Distance
    fid: Distance
    precision: Distance
    recall: Distance


@dataclass(frozen=True)
class Obedience:
    """What networks trained on real pictures see: outline, class and device asked for (or true).

    `device` is None where the other half is of one device, so that nothing could learn to tell devices.
    """

    pictures: int
    dice: Estimate
    lesion_class: Auc
    device: Proportion | None
    by_device: Mapping[str, Proportion]


@dataclass(frozen=True)
class Fidelity:
    """All figures. `speckle`: Kolmogorov-Smirnov distances to the real pictures learned from."""

    likeness: Mapping[str, Mapping[str, Likeness]]
    obedience: Mapping[str, Obedience]
    dice_reached: bool
    speckle: Mapping[str, Mapping[str, Estimate]]


def judge_fidelity(folder: Path, resamples: int, seed: int) -> Section:
    """The report's part on fidelity.

    Raises
    ------
    PredictionError
        A file is missing or cannot be judged.
    """
    read_facts(folder / "fidelity.json")
    seen = ("set", "patient_id", "malignant", "logit", "device", "device_seen", "dice")
    rows = read_columns(folder / "obedience.parquet", seen, "fidelity")
    speckle = read_columns(folder / "speckle.parquet", ("set", "patient_id", *_STATISTICS), "fidelity")
    try:
        with np.load(folder / "features.npz") as arrays:
            features = {(net, name): arrays[f"{net}_{name}"] for net in NETWORKS for name in SETS}
    except (OSError, ValueError, KeyError):
        raise PredictionError(
            f"{folder / 'features.npz'} cannot be read: run busmap generator fidelity anew"
        ) from None
    figures = fidelity_figures(features, rows, speckle, resamples=resamples, seed=seed)
    plots = [
        share_plot(title, title, [(name, speckle[key][speckle["set"] == name].tolist()) for name in SETS])
        for key, title in _STATISTICS.items()
    ]
    return Section("fidelity", figures, _tables(figures), _NOTES, plots)


def fidelity_figures(
    features: Mapping[tuple[str, str], npt.NDArray[Any]],
    rows: Columns,
    speckle: Columns,
    *,
    resamples: int,
    seed: int,
) -> Fidelity:
    """All figures from features by network and set, and the rows of the two tables."""
    likeness = {
        network: {
            f"{one} against {other}": _likeness(features[network, one], features[network, other], seed)
            for one, other in PAIRS
        }
        for network in NETWORKS
    }
    obedience = {
        name: _obedience({key: values[rows["set"] == name] for key, values in rows.items()}, resamples, seed)
        for name in ("generated", "learned")
    }
    distances = {
        key: {name: _ks_distance(speckle, key, name, resamples, seed) for name in ("generated", "other")}
        for key in _STATISTICS
    }
    return Fidelity(likeness, obedience, obedience["generated"].dice.value >= DICE_TARGET, distances)


def _likeness(one: npt.NDArray[Any], other: npt.NDArray[Any], seed: int) -> Likeness:
    random = np.random.default_rng(seed)
    size = min(len(one), len(other)) // 2
    found = []
    for _ in range(SUBSETS):
        first, second = (part[random.choice(len(part), size, replace=False)] for part in (one, other))
        found.append((kid(first, second), fid(first, second), *precision_recall(second, first)))
    columns = np.array(found)
    return Likeness(size, *(Distance(float(c.mean()), float(c.min()), float(c.max())) for c in columns.T))


def _obedience(rows: Columns, resamples: int, seed: int) -> Obedience:
    dice, patients = rows["dice"], rows["patient_id"]
    interval = bootstrap_by_patient(
        lambda chosen: float(dice[chosen].mean()), patients, resamples=resamples, seed=seed
    )
    _, first, place = np.unique(patients, return_index=True, return_inverse=True)
    scores = np.bincount(place, weights=rows["logit"]) / np.bincount(place)
    right = rows["device"] == rows["device_seen"]
    told = bool((rows["device_seen"].astype(str) != "").all())
    devices = (
        {}
        if not told
        else {
            str(name): wilson(int(right[rows["device"] == name].sum()), int((rows["device"] == name).sum()))
            for name in np.unique(rows["device"].astype(str))
        }
    )
    return Obedience(
        len(dice),
        Estimate(float(dice.mean()), interval),
        auc_with_interval(scores, rows["malignant"][first].astype(bool)),
        wilson(int(right.sum()), len(right)) if told else None,
        devices,
    )


def _ks_distance(rows: Columns, key: str, name: str, resamples: int, seed: int) -> Estimate:
    """Distance of a set's distribution to that of the pictures learned from; both resampled by patient."""
    one, other = rows["set"] == name, rows["set"] == "learned"
    chosen = one | other
    values, is_one = rows[key][chosen], one[chosen]
    owners = np.char.add(np.where(is_one, "one ", "other "), rows["patient_id"][chosen].astype(str))

    def distance(index: npt.NDArray[np.intp]) -> float:
        picked, side = values[index], is_one[index]
        return float(stats.ks_2samp(picked[side], picked[~side], method="asymp").statistic)

    interval: Interval = bootstrap_by_patient(distance, owners, is_one, resamples=resamples, seed=seed)
    return Estimate(distance(np.arange(len(values))), interval)


_NOTES = (
    "KID, FID, precision and recall (k = 3): mean over ten random halves of like size (least to greatest). "
    "The features are not Inception's: values do not compare with published ones. Yardstick: other against "
    "learned, both real.",
    "Obedience: by networks trained on real pictures of the other half; beside it what they find in real "
    "pictures of the half learned from. A resampled Kolmogorov-Smirnov distance lies above the true one: an "
    "interval may not hold its figure where sets are alike.",
)


def _tables(figures: Fidelity) -> list[Table]:
    tables = []
    for network, pairs in figures.likeness.items():
        rows = [
            (name, str(one.size), *(_shown(d) for d in (one.kid, one.fid, one.precision, one.recall)))
            for name, one in pairs.items()
        ]
        titles = ("sets", "pictures of each", "KID", "FID", "precision", "recall")
        tables.append(Table(f"Features of {NETWORKS[network]}", titles, rows))
    seen = [
        (name, str(one.pictures), estimate(one.dice), area(one.lesion_class), _share(one.device))
        for name, one in figures.obedience.items()
    ]
    verdict = "reached" if figures.dice_reached else "missed"
    heads = ("pictures", "n", "Dice of the outline", "AUC of the class", "device seen as asked")
    tables.append(Table(f"Obedience (Dice of at least {DICE_TARGET}: {verdict})", heads, seen))
    devices = [
        (f"{name}, {device}", _share(share))
        for name, one in figures.obedience.items()
        for device, share in one.by_device.items()
    ]
    tables.append(Table("Device seen as asked, by device", ("pictures", "share (Wilson)"), devices))
    speckle = [
        (_STATISTICS[key], estimate(pair["generated"]), estimate(pair["other"]))
        for key, pair in figures.speckle.items()
    ]
    columns = ("statistic", "generated to learned", "other to learned (real)")
    tables.append(Table("Speckle: Kolmogorov-Smirnov distance", columns, speckle))
    return tables


def _shown(distance: Distance) -> str:
    return number(distance.value, Interval(distance.low, distance.high), 4)


def _share(share: Proportion | None) -> str:
    if share is None:
        return "not told: one device to learn from"
    return f"{number(share.value, share.interval)}, {share.count} of {share.total}"
