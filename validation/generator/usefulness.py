"""What generated pictures are worth: the tests that docs/protocol-generator.md states beforehand.

Promises: a patient's score is the mean over his images and over the seeds of the arm; one primary test,
then the secondary ones in their fixed order, each only if the one before holds; everything else is described
and not tested. An arm that was not run makes its figures None, never another number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from validation.figures import FEW
from validation.generator.files import Columns
from validation.predictions import PredictionError
from validation.statistics.bootstrap import RESAMPLES, bootstrap_by_patient
from validation.statistics.groups import group_means
from validation.statistics.interval import Estimate, Flags, Floats
from validation.statistics.roc import (
    Auc,
    NonInferiority,
    PairedTest,
    auc_with_interval,
    empirical_auc,
    non_inferiority,
    paired_delong,
)

MARGIN = 0.03
REFERENCE, PRIMARY, JOINT = "real", "gen-10", "both"


@dataclass(frozen=True)
class Patients:
    """Scores by arm, each (n,), of the same n patients; truth and device (n,)."""

    scores: Mapping[str, Floats]
    malignant: Flags
    device: npt.NDArray[np.str_]


@dataclass(frozen=True)
class ArmFigures:
    """An arm: area, and its difference to the real one (None for itself, or without it)."""

    auc: Auc
    against_real: PairedTest | None


@dataclass(frozen=True)
class Slope:
    """AUC gained for ten times the generated pictures; `stops_after`: the next size is not higher."""

    sizes: tuple[int, ...]
    areas: tuple[float, ...]
    per_decade: Estimate
    stops_after: int | None


@dataclass(frozen=True)
class Step:
    """A test of the fixed sequence. `tested`: all before it held; `shown` is None where it was not."""

    name: str
    tested: bool
    shown: bool | None


@dataclass(frozen=True)
class Dice:
    """Mean Dice over images and its difference to the real arm, intervals by patient."""

    mean: Estimate
    against_real: Estimate | None


@dataclass(frozen=True)
class Usefulness:
    """All figures of a study. `devices`: by device and arm, None where patients are too few.

    `unfinished`: diagnosis arms that are left out, as a seed of theirs is not there yet.
    """

    unfinished: tuple[str, ...]
    patients: int
    malignant: int
    arms: Mapping[str, ArmFigures]
    primary: NonInferiority | None
    sequence: tuple[Step, ...]
    slope: Slope | None
    devices: Mapping[str, Mapping[str, Auc] | None]
    malignant_by_device: Mapping[str, int]
    shortcut: Mapping[str, Auc]
    shortcut_nearer: Estimate | None
    dice: Mapping[str, Dice]


def finished(rows: Columns, seeds: Sequence[int]) -> tuple[Columns, tuple[str, ...]]:
    """The rows of arms of which every seed is there, and the names of the other arms.

    A score averaged over fewer seeds than another arm's is noisier: compared, it would lose by that alone.
    """
    whole = [
        arm
        for arm in dict.fromkeys(rows["arm"].tolist())
        if set(seeds) <= set(rows["seed"][rows["arm"] == arm].tolist())
    ]
    kept = np.isin(rows["arm"], whole) & np.isin(rows["seed"], seeds)
    others = tuple(arm for arm in dict.fromkeys(rows["arm"].tolist()) if arm not in whole)
    return {name: values[kept] for name, values in rows.items()}, others


def patients_of(rows: Columns, value: str) -> Patients:
    """One score a patient and arm: the mean over images and seeds."""
    patients, first, place = np.unique(rows["patient_id"], return_index=True, return_inverse=True)
    scores = {}
    for arm in dict.fromkeys(rows["arm"].tolist()):
        own = rows["arm"] == arm
        scores[arm] = group_means(place[own], rows[value][own], len(patients))
    return Patients(scores, rows["malignant"][first].astype(bool), rows["device"][first].astype(str))


def judge_study(
    diagnosis: Columns,
    shortcut: Columns | None,
    segmentation: Columns | None,
    sizes: Mapping[str, int],
    seeds: Sequence[int],
    *,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> Usefulness:
    """Judge the rows of a study.

    Parameters
    ----------
    sizes : generated pictures of each arm of these alone
    seeds : those that every arm of diagnosis is to have; an arm without one of them is left out

    Raises
    ------
    PredictionError
        No arm is finished.
    """
    diagnosis, unfinished = finished(diagnosis, seeds)
    if not len(diagnosis["arm"]):
        raise PredictionError(
            f"no arm is finished ({', '.join(unfinished)} lack seeds): busmap generator study goes on"
        )
    patients = patients_of(diagnosis, "logit")
    truth, scores = patients.malignant, patients.scores
    primary = None
    if {REFERENCE, PRIMARY} <= set(scores):
        primary = non_inferiority(scores[PRIMARY], scores[REFERENCE], truth, MARGIN)
    arms = {
        arm: ArmFigures(auc_with_interval(own, truth), _against(scores, arm, truth))
        for arm, own in scores.items()
    }
    probes = patients_of(shortcut, "score") if shortcut is not None else None
    nearer = _nearer(probes, resamples, seed) if probes is not None else None
    devices, counts = _devices(patients)
    return Usefulness(
        unfinished=unfinished,
        patients=len(truth),
        malignant=int(truth.sum()),
        arms=arms,
        primary=primary,
        sequence=_sequence(primary, arms.get(JOINT), nearer),
        slope=_slope(patients, sizes, resamples, seed),
        devices=devices,
        malignant_by_device=counts,
        shortcut={}
        if probes is None
        else {arm: auc_with_interval(own, probes.malignant) for arm, own in probes.scores.items()},
        shortcut_nearer=nearer,
        dice={} if segmentation is None else _dice(segmentation, resamples, seed),
    )


def _against(scores: Mapping[str, Floats], arm: str, truth: Flags) -> PairedTest | None:
    if arm == REFERENCE or REFERENCE not in scores:
        return None
    return paired_delong(scores[arm], scores[REFERENCE], truth)


def _sequence(
    primary: NonInferiority | None, joint: ArmFigures | None, nearer: Estimate | None
) -> tuple[Step, ...]:
    """The fixed sequence; a test whose arms are missing holds nothing and ends it."""
    above = joint.against_real.interval.low > 0 if joint and joint.against_real else None
    held = (
        (f"{PRIMARY} not inferior to {REFERENCE} (margin {MARGIN})", primary.shown if primary else None),
        (f"{JOINT} above {REFERENCE}", above),
        (
            f"shortcut of {PRIMARY} nearer to 0.5 than that of {REFERENCE}",
            nearer.interval.low > 0 if nearer else None,
        ),
    )
    steps, tested = [], True
    for name, shown in held:
        steps.append(Step(name, tested, bool(shown) if tested and shown is not None else None))
        tested = tested and bool(shown)
    return tuple(steps)


def _bootstrapped(
    statistic: Callable[[npt.NDArray[np.intp]], float], truth: Flags, resamples: int, seed: int
) -> Estimate:
    """A figure over patients, resampled within truth."""
    everyone = np.arange(len(truth))
    interval = bootstrap_by_patient(statistic, everyone, truth, resamples=resamples, seed=seed)
    return Estimate(statistic(everyone), interval)


def _nearer(probes: Patients, resamples: int, seed: int) -> Estimate | None:
    """How much nearer to 0.5 the probe of the generated arm lies; above 0 is nearer."""
    if not {REFERENCE, PRIMARY} <= set(probes.scores):
        return None
    real, made, truth = probes.scores[REFERENCE], probes.scores[PRIMARY], probes.malignant

    def gained(chosen: npt.NDArray[np.intp]) -> float:
        away = [abs(empirical_auc(own[chosen], truth[chosen]) - 0.5) for own in (real, made)]
        return away[0] - away[1]

    return _bootstrapped(gained, truth, resamples, seed)


def _slope(patients: Patients, sizes: Mapping[str, int], resamples: int, seed: int) -> Slope | None:
    arms = sorted((arm for arm in sizes if arm in patients.scores), key=lambda arm: sizes[arm])
    if len(arms) < 2:
        return None
    truth = patients.malignant
    counts = tuple(sizes[arm] for arm in arms)
    decades = np.log10(counts)

    def areas(chosen: npt.NDArray[np.intp]) -> list[float]:
        return [empirical_auc(patients.scores[arm][chosen], truth[chosen]) for arm in arms]

    def slope(chosen: npt.NDArray[np.intp]) -> float:
        return float(np.polyfit(decades, areas(chosen), 1)[0])

    seen = areas(np.arange(len(truth)))
    stops = next((counts[i] for i in range(len(arms) - 1) if seen[i + 1] <= seen[i]), None)
    return Slope(counts, tuple(seen), _bootstrapped(slope, truth, resamples, seed), stops)


def _devices(patients: Patients) -> tuple[dict[str, dict[str, Auc] | None], dict[str, int]]:
    figures: dict[str, dict[str, Auc] | None] = {}
    counts = {}
    for device in sorted(set(patients.device.tolist())):
        own = patients.device == device
        truth = patients.malignant[own]
        counts[device] = int(truth.sum())
        few = min(counts[device], int((~truth).sum())) < FEW
        figures[device] = (
            None
            if few
            else {arm: auc_with_interval(score[own], truth) for arm, score in patients.scores.items()}
        )
    return figures, counts


def _dice(rows: Columns, resamples: int, seed: int) -> dict[str, Dice]:
    """Mean over images, the seeds of an arm averaged before."""
    images, first, place = np.unique(rows["image_id"], return_index=True, return_inverse=True)
    owners = rows["patient_id"][first]
    values = {}
    for arm in dict.fromkeys(rows["arm"].tolist()):
        own = rows["arm"] == arm
        values[arm] = group_means(place[own], rows["dice"][own], len(images))

    def mean(array: Floats) -> Estimate:
        def statistic(chosen: npt.NDArray[np.intp]) -> float:
            return float(array[chosen].mean())

        interval = bootstrap_by_patient(statistic, owners, resamples=resamples, seed=seed)
        return Estimate(float(array.mean()), interval)

    real = values.get(REFERENCE)
    return {
        arm: Dice(mean(own), None if real is None or arm == REFERENCE else mean(own - real))
        for arm, own in values.items()
    }
