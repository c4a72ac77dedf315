"""The figures of a prediction file: per patient, with intervals, with and without what was not found.

Promises: every image and every patient counts. A patient's score is the product's own rule for one lesion
in several views, the mean logit over the images in which a lesion was found; where none was, the patient
scores lowest. A patient's probability is the mean over the same images, 0 where there are none. Dice is
0 where a lesion was missed or the frame abstained from. The same figures over the found images alone stand
beside; they flatter, and say so.

Refuses nothing: a figure that cannot be computed (one class, too few patients) is None with a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.data.prediction import Prediction
from validation.reliability import PairBin, pair_bins
from validation.statistics.bootstrap import RESAMPLES, bootstrap_by_patient
from validation.statistics.calibration import (
    CalibrationLine,
    ReliabilityBin,
    brier_score,
    calibration_line,
    reliability_bins,
)
from validation.statistics.interval import Interval, StatisticsError
from validation.statistics.proportions import wilson
from validation.statistics.roc import Auc, OperatingPoint, auc_with_interval, empirical_auc, operating_point

FEW = 20  # patients of a class below which a figure is marked as resting on too few


@dataclass(frozen=True)
class Thresholds:
    """Frozen operating points: mean logit of a patient from which the answer is "malignant"."""

    sensitive: float
    specific: float


@dataclass(frozen=True)
class Estimate:
    """A mean or share over `images` images with its interval by patients."""

    value: float
    interval: Interval
    images: int


@dataclass(frozen=True)
class Patient:
    """One patient: truth, score (mean logit, -inf where nothing was found) and probability (0..1)."""

    patient_id: str
    malignant: bool
    score: float
    probability: float
    found: bool


@dataclass(frozen=True)
class Figures:
    """What is said of a group of images. None: not computable, see `notes`.

    `auc` by mean logit, `auc_bootstrap` its interval by resampling patients within truth,
    `auc_of_probability` the area by mean probability. `dice` over images with a lesion; `nothing_marked`
    is the share of images without a lesion in which none was found. `brier` over all patients;
    `calibration` and `reliability` over those with a finding: the others were given no probability.
    """

    patients: int
    malignant: int
    images: int
    auc: Auc | None
    auc_bootstrap: Interval | None
    auc_of_probability: float | None
    dice: Estimate | None
    found: Estimate | None
    abstained: Estimate
    nothing_marked: Estimate | None
    at_sensitive: OperatingPoint | None
    at_specific: OperatingPoint | None
    brier: float
    calibration: CalibrationLine | None
    reliability: tuple[ReliabilityBin, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """All figures of one prediction file. `found_only` leaves out images not found or abstained from.

    `pairs`: reliability of the Venn-Abers pair, where the rows are of several folds.
    """

    name: str
    model_sha256: tuple[str, ...]
    everything: Figures
    found_only: Figures | None
    devices: dict[str, Figures]
    pairs: tuple[PairBin, ...] = ()


def patients_of(rows: Sequence[Prediction]) -> tuple[Patient, ...]:
    """One entry a patient, in the order of their ids; the rule is the module's."""
    views: dict[str, list[Prediction]] = {}
    for row in rows:
        views.setdefault(row.patient_id, []).append(row)
    patients = []
    for patient_id, images in sorted(views.items()):
        seen = [image for image in images if image.found]
        logits = [image.logit for image in seen if image.logit is not None]
        patients.append(
            Patient(
                patient_id=patient_id,
                malignant=images[0].malignant,
                score=float(np.mean(logits)) if logits else -np.inf,
                probability=float(np.mean([image.probability for image in seen])) if seen else 0.0,
                found=bool(seen),
            )
        )
    return tuple(patients)


def judge(
    name: str,
    rows: Sequence[Prediction],
    thresholds: Thresholds | None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> Judgement:
    """All figures of the rows of one file (at least one row); `name` says which in the report."""

    def of(chosen: Sequence[Prediction]) -> Figures:
        return figures(chosen, thresholds, resamples=resamples, seed=seed)

    found = [row for row in rows if row.found]
    devices = sorted({row.device for row in rows})
    return Judgement(
        name=name,
        model_sha256=tuple(sorted({row.model_sha256 for row in rows})),
        everything=of(rows),
        found_only=of(found) if found else None,
        devices={device: of([row for row in rows if row.device == device]) for device in devices},
        pairs=pair_bins(rows),
    )


def figures(
    rows: Sequence[Prediction],
    thresholds: Thresholds | None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> Figures:
    """Figures of a group of images (at least one); the same seed gives the same intervals."""
    patients = patients_of(rows)
    labels = np.array([patient.malignant for patient in patients])
    scores = np.array([patient.score for patient in patients])
    probability = np.array([patient.probability for patient in patients])
    seen = np.array([patient.found for patient in patients])
    notes = _notes(labels)
    area = _area(notes, scores, labels)
    bootstrap = None
    if area is not None:
        bootstrap = bootstrap_by_patient(
            lambda chosen: empirical_auc(scores[chosen], labels[chosen]),
            np.arange(len(labels)),
            labels,
            resamples=resamples,
            seed=seed,
        )
    sensitive = specific = None
    if thresholds is not None and area is not None:
        sensitive = operating_point(scores, labels, thresholds.sensitive)
        specific = operating_point(scores, labels, thresholds.specific)
    lesion = [row for row in rows if row.has_lesion]
    clear = [row for row in rows if not row.has_lesion]

    def mean(chosen: Sequence[Prediction], values: Sequence[float]) -> Estimate | None:
        return _mean_by_patient(chosen, values, resamples, seed) if chosen else None

    abstained = _mean_by_patient(rows, [row.abstained for row in rows], resamples, seed)
    return Figures(
        patients=len(patients),
        malignant=int(labels.sum()),
        images=len(rows),
        auc=area,
        auc_bootstrap=bootstrap,
        auc_of_probability=None if area is None else empirical_auc(probability, labels),
        dice=mean(lesion, [row.dice for row in lesion]),
        found=mean(lesion, [row.found for row in lesion]),
        abstained=abstained,
        nothing_marked=mean(clear, [not row.found for row in clear]),
        at_sensitive=sensitive,
        at_specific=specific,
        brier=brier_score(probability, labels),
        calibration=_line(notes, probability[seen], labels[seen]),
        reliability=reliability_bins(probability[seen], labels[seen]) if seen.any() else (),
        notes=tuple(notes),
    )


def _notes(labels: npt.NDArray[np.bool_]) -> list[str]:
    counts = {"malignant": int(labels.sum()), "not malignant": int((~labels).sum())}
    return [f"n too small: {count} {name} patients" for name, count in counts.items() if count < FEW]


def _area(notes: list[str], scores: npt.NDArray[np.float64], labels: npt.NDArray[np.bool_]) -> Auc | None:
    try:
        return auc_with_interval(scores, labels)
    except StatisticsError as error:
        notes.append(f"no ROC curve: {error}")
        return None


def _line(
    notes: list[str], probability: npt.NDArray[np.float64], labels: npt.NDArray[np.bool_]
) -> CalibrationLine | None:
    try:
        return calibration_line(probability, labels)
    except StatisticsError as error:
        notes.append(f"no calibration line: {error}")
        return None


def _mean_by_patient(
    rows: Sequence[Prediction], values: Sequence[float], resamples: int, seed: int
) -> Estimate:
    """Mean over images; its interval resamples patients.

    Where all values are the same resampling knows no doubt: Wilson's interval over the patients stands in
    for a share of 0 or 1.
    """
    array = np.asarray(values, np.float64)
    owners = [row.patient_id for row in rows]
    if array.min() == array.max() and array[0] in (0.0, 1.0):
        count = len(set(owners))
        interval = wilson(count if array[0] else 0, count).interval
    else:
        interval = bootstrap_by_patient(
            lambda chosen: float(array[chosen].mean()), owners, resamples=resamples, seed=seed
        )
    return Estimate(float(array.mean()), interval, len(rows))
