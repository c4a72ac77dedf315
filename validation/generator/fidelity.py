"""How true to life generated pictures are, against what real pictures are to each other.

Promises: every comparison of features is made over random halves of the patients, with equal numbers of
pictures, so that numbers do not decide; the yardstick is real against real, each half against the rest of the
same patients, whom no network that looks has seen. The features are ImageNet's EfficientNet-Lite0 and an
outlining net's: values do not compare with published ones, which are Inception's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from models.generation.distances import fid, kid, precision_recall
from models.generation.halves import patient_halves
from validation.generator.files import Columns, read_columns, read_facts
from validation.generator.report import Section, Table
from validation.generator.shown import area, estimate, number
from validation.plots import share_plot
from validation.predictions import PredictionError
from validation.statistics.bootstrap import bootstrap_by_patient
from validation.statistics.groups import group_means
from validation.statistics.halves import over_halves
from validation.statistics.interval import Estimate
from validation.statistics.proportions import Proportion, share_by_patient
from validation.statistics.roc import Auc, auc_with_interval

DICE_TARGET = 0.80
HALVES = 50
NEIGHBOUR = 3  # k of precision and recall
NETWORKS: Mapping[str, str] = {"imagenet": "ImageNet's encoder", "outline": "outlining net of the other half"}
SETS = ("generated", "learned", "other")
SEEN = SETS[:2]  # what the networks look at: they were trained on the other half
JUDGED, YARDSTICK = "generated against learned", "learned against learned"
_ANEW = "run busmap generator fidelity anew"
_STATISTICS: Mapping[str, str] = {
    "shape": "Nakagami shape",
    "down": "half-width down, px",
    "across": "half-width across, px",
}


@dataclass(frozen=True)
class Likeness:
    """Of `size` against `size` pictures: means over halves of the patients, intervals of `half_interval`."""

    size: int
    kid: Estimate
    fid: Estimate
    precision: Estimate
    recall: Estimate


@dataclass(frozen=True)
class DeviceSeen:
    """How often the device seen is the one asked for; `chance`: were those seen shuffled among pictures."""

    share: Proportion
    chance: float


@dataclass(frozen=True)
class Obedience:
    """What networks trained on real pictures see: outline, class and device asked for (or true).

    `device` is None where the other half is of one device, so that nothing could learn to tell devices.
    """

    pictures: int
    dice: Estimate
    lesion_class: Auc
    device: DeviceSeen | None
    by_device: Mapping[str, DeviceSeen]


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
            features = {(net, name): arrays[f"{net}_{name}"] for net in NETWORKS for name in SEEN}
    except (OSError, ValueError, KeyError):
        raise PredictionError(f"{folder / 'features.npz'} cannot be read: {_ANEW}") from None
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
    owners = rows["patient_id"][rows["set"] == "learned"].astype(str).tolist()
    likeness = {
        network: _likeness(features[network, "generated"], features[network, "learned"], owners, seed)
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


def _likeness(
    made: npt.NDArray[Any], real: npt.NDArray[Any], owners: Sequence[str], seed: int
) -> dict[str, Likeness]:
    """Generated and real pictures (features, rows) against the same random halves of the real patients.

    The real pictures compared are those of the patients not in the half; as many are drawn of all.
    """
    if len(real) != len(owners):
        raise PredictionError(f"features and rows of real pictures differ in number: {_ANEW}")
    random = np.random.default_rng(seed)
    halves = patient_halves(owners, random, HALVES)
    rests = [np.setdiff1d(np.arange(len(real)), half) for half in halves]
    size = min([len(made) // 2, *(len(part) for part in (*halves, *rests))], default=0)
    if size <= NEIGHBOUR:
        raise PredictionError(f"too few pictures or patients to compare halves of: {_ANEW} with more")
    found: dict[str, list[tuple[float, ...]]] = {JUDGED: [], YARDSTICK: []}
    for half, rest in zip(halves, rests, strict=True):
        reference, beside = (real[random.choice(part, size, replace=False)] for part in (half, rest))
        drawn = made[random.choice(len(made), size, replace=False)]
        for name, own in ((JUDGED, drawn), (YARDSTICK, beside)):
            shares = precision_recall(reference, own, NEIGHBOUR)
            found[name].append((kid(own, reference), fid(own, reference), *shares))
    return {
        name: Likeness(size, *(over_halves(column) for column in np.array(values).T))
        for name, values in found.items()
    }


def _obedience(rows: Columns, resamples: int, seed: int) -> Obedience:
    dice, patients = rows["dice"], rows["patient_id"]
    interval = bootstrap_by_patient(
        lambda chosen: float(dice[chosen].mean()), patients, resamples=resamples, seed=seed
    )
    people, first, place = np.unique(patients, return_index=True, return_inverse=True)
    scores = group_means(place, rows["logit"], len(people))
    return Obedience(
        len(dice),
        Estimate(float(dice.mean()), interval),
        auc_with_interval(scores, rows["malignant"][first].astype(bool)),
        *_devices(rows, resamples, seed),
    )


def _devices(rows: Columns, resamples: int, seed: int) -> tuple[DeviceSeen | None, dict[str, DeviceSeen]]:
    """Shares in which the device seen is the one asked for; none where none could be told."""
    asked, seen = (rows[key].astype(str) for key in ("device", "device_seen"))
    if (seen == "").any():
        return None, {}

    def share(own: npt.NDArray[np.bool_], chance: float) -> DeviceSeen:
        found = share_by_patient(
            seen[own] == asked[own], rows["patient_id"][own], resamples=resamples, seed=seed
        )
        return DeviceSeen(found, chance)

    how_often = {str(name): float((seen == name).mean()) for name in np.unique(asked)}
    by_device = {name: share(asked == name, chance) for name, chance in how_often.items()}
    by_chance = sum(float((asked == name).mean()) * chance for name, chance in how_often.items())
    return share(np.ones(len(asked), bool), by_chance), by_device


def _ks_distance(rows: Columns, key: str, name: str, resamples: int, seed: int) -> Estimate:
    """Distance of a set's distribution to that of the pictures learned from; both resampled by patient."""
    one, other = rows["set"] == name, rows["set"] == "learned"
    chosen = one | other
    values, is_one = rows[key][chosen], one[chosen]
    owners = np.char.add(np.where(is_one, "one ", "other "), rows["patient_id"][chosen].astype(str))

    def distance(index: npt.NDArray[np.intp]) -> float:
        picked, side = values[index], is_one[index]
        return float(stats.ks_2samp(picked[side], picked[~side], method="asymp").statistic)

    interval = bootstrap_by_patient(distance, owners, is_one, resamples=resamples, seed=seed)
    return Estimate(distance(np.arange(len(values))), interval)


_NOTES = (
    f"KID, FID, precision and recall (k = {NEIGHBOUR}): mean over {HALVES} random halves of the patients "
    "learned from; generated pictures, and as the yardstick (learned against learned) the real ones of the "
    "patients left over, against the same half, as many of each. Interval: 1.96 times what a figure strays "
    "over the halves (delete-d jackknife, by patient). The features are not Inception's: values do not "
    "compare with published ones. No network that looks was trained on a picture judged here.",
    "Obedience: by networks trained on real pictures of the other half; beside it what they find in real "
    "pictures of the half learned from. A generated picture counts as a patient of its own. By chance: as "
    "often the device asked for would be seen if the devices seen were shuffled among the pictures.",
    "A resampled Kolmogorov-Smirnov distance lies above the true one: an interval may not hold its figure "
    "where sets are alike.",
)


def _tables(figures: Fidelity) -> list[Table]:
    tables = []
    for network, pairs in figures.likeness.items():
        rows = [
            (
                name,
                str(one.size),
                *(estimate(own, 4) for own in (one.kid, one.fid, one.precision, one.recall)),
            )
            for name, one in pairs.items()
        ]
        titles = ("sets", "pictures of each", "KID", "FID", "precision", "recall")
        tables.append(
            Table(f"Features of {NETWORKS[network]} (intervals over halves of the patients)", titles, rows)
        )
    seen = [
        (name, str(one.pictures), estimate(one.dice), area(one.lesion_class), _seen(one.device))
        for name, one in figures.obedience.items()
    ]
    verdict = "reached" if figures.dice_reached else "missed"
    heads = (
        "pictures",
        "n",
        "Dice of the outline (patients resampled)",
        "AUC of the class (DeLong by patient, logit scale)",
        "device seen as asked",
    )
    tables.append(Table(f"Obedience (Dice of at least {DICE_TARGET}: {verdict})", heads, seen))
    devices = [
        (f"{name}, {device}", _seen(share))
        for name, one in figures.obedience.items()
        for device, share in one.by_device.items()
    ]
    shares = "share (generated: Wilson; real: patients resampled), and by chance"
    tables.append(Table("Device seen as asked, by device", ("pictures", shares), devices))
    speckle = [
        (_STATISTICS[key], estimate(pair["generated"]), estimate(pair["other"]))
        for key, pair in figures.speckle.items()
    ]
    columns = ("statistic", "generated to learned", "other to learned (real)")
    tables.append(Table("Speckle: Kolmogorov-Smirnov distance (patients resampled)", columns, speckle))
    return tables


def _seen(device: DeviceSeen | None) -> str:
    if device is None:
        return "not told: one device to learn from"
    share = device.share
    shown = f"{number(share.value, share.interval)}, {share.count} of {share.total}"
    return f"{shown}; by chance {device.chance:.3f}"
