"""The study of usefulness: every arm trained alike, judged on the patients of the other half.

Promises: arm after arm, each kept when it is done; a killed run goes on within its arm; the patients judged
were seen by neither generator nor arm; scores only are written, no figure.

Every arm is pinned to the generated pictures that it learned from; a folder is gone on with on no others.

Layout of the folder: study.json (what was compared), diagnosis.parquet, segmentation.parquet and
shortcut.parquet (one row an image, arm and seed), and one folder an arm with its weights and pictures.json
(which repository, which pictures of it).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models.data.prediction import write_rows
from models.data.record import DataError, Record, data_hash
from models.diagnosis import train as diagnosis
from models.diagnosis.train import patient_weights
from models.generation.frames import FrameSet, prepare
from models.generation.kid import Embedder
from models.generation.study.arms import (
    DIAGNOSIS,
    SEGMENTATION,
    Arm,
    Grey,
    diagnosis_set,
    generated,
    lesion_rows,
    real,
    segmentation_set,
)
from models.generation.study.pin import pin_of
from models.generation.study.probe import Backgrounds, features_of, fit_probe, without_lesion
from models.segmentation import train as segmentation
from models.segmentation.train import squares_of
from models.training.device import best_device
from models.training.loop import LoopSettings
from models.training.run import begin_run

KINDS = ("diagnosis", "segmentation", "shortcut")
PICTURES = "pictures.json"


@dataclass(frozen=True)
class StudySettings:
    """How every arm is trained. Seeds: of the diagnosis and of the segmentation arms."""

    diagnosis: LoopSettings = diagnosis.DEFAULTS
    segmentation: LoopSettings = segmentation.DEFAULTS
    seeds: tuple[int, ...] = (1, 2)
    segmentation_seeds: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Study:
    """What is compared: records of the half learned from and of the half judged, and generated pictures."""

    learned: Sequence[Record]
    judged: Sequence[Record]
    repository: Path
    out: Path
    settings: StudySettings


def halves(
    records: Sequence[Record], facts: Mapping[str, Any], development: Sequence[int]
) -> tuple[list[Record], list[Record]]:
    """The records a generator learned from, and those of the other development folds.

    Raises
    ------
    DataError
        No fold is left to judge, or the data are not those that the generator learned from.
    """
    own = [record for record in records if record.fold in facts["folds"]]
    others = [r for r in records if r.fold in development and r.fold not in facts["folds"]]
    if not others:
        raise DataError(
            f"the generator learned from folds {facts['folds']}: no patient is left to judge; "
            "train one with --folds 1,2"
        )
    word = (facts.get("excluded_device") or "").lower()
    seen = [record for record in own if not word or word not in record.device.lower()]
    if data_hash(seen) != facts["data_hash"]:
        raise DataError(
            "the generator learned from other images than these: give the --data it was trained on"
        )
    return own, others


def run_study(
    study: Study, facts: Mapping[str, Any], only: Sequence[str] = (), minutes: float | None = None
) -> bool:
    """Run what is missing of the study; whether nothing is missing any more.

    Parameters
    ----------
    facts : what study.json says beside settings and data
    only : arms to run, all if empty
    minutes : begin no further arm after this time

    Raises
    ------
    RunDiffersError
        The folder holds another study, or arms of another repository.
    """
    begin_run(
        study.out,
        {
            **facts,
            "settings": asdict(study.settings),
            "arms": {arm.name: {"real": arm.real, "times": arm.times} for arm in DIAGNOSIS},
            "learned": {"data_hash": data_hash(study.learned), "images": len(study.learned)},
            "judged": {"data_hash": data_hash(study.judged), "images": len(study.judged)},
        },
        "study.json",
    )
    for arm, path, _ in _works(study):
        if path.exists() or (path.parent / PICTURES).exists():
            _pin(study, arm, path.parent)
    begun = time.monotonic()
    for arm, path, work in _works(study):
        if path.exists() or (only and arm.name not in only):
            continue
        if minutes is not None and time.monotonic() - begun >= minutes * 60:
            break
        _pin(study, arm, path.parent)
        write_rows(work(), path)
        (path.parent / "checkpoint.pt").unlink(missing_ok=True)
        _join(study)
    return all(path.exists() for _, path, _ in _works(study))


def _pin(study: Study, arm: Arm, folder: Path) -> None:
    """Bind an arm's folder to the generated pictures that it learns from; refused where it has others."""
    if arm.times:
        rows = lesion_rows(study.repository, arm.times * len(study.learned))
        begin_run(folder, pin_of(study.repository, rows), PICTURES)


def _works(study: Study) -> Iterator[tuple[Arm, Path, Callable[[], list[dict[str, Any]]]]]:
    """Every piece of the study: its arm, the file that says it is done, and what makes its rows."""
    for arm in DIAGNOSIS:
        for seed in study.settings.seeds:
            folder = study.out / "diagnosis" / f"{arm.name}-seed{seed}"
            yield arm, folder / "rows.parquet", _work(_diagnose, study, arm, seed, folder)
    for arm in SEGMENTATION:
        for seed in study.settings.segmentation_seeds:
            folder = study.out / "segmentation" / f"{arm.name}-seed{seed}"
            yield arm, folder / "rows.parquet", _work(_outline, study, arm, seed, folder)
    for arm in DIAGNOSIS:
        folder = study.out / "shortcut" / f"{arm.name}-seed1"
        yield arm, folder / "rows.parquet", _work(_probe, study, arm, 1, folder)


def _work(
    make: Callable[[Study, Arm, int, Path], list[dict[str, Any]]],
    study: Study,
    arm: Arm,
    seed: int,
    folder: Path,
) -> Callable[[], list[dict[str, Any]]]:
    return lambda: make(study, arm, seed, folder)


def _join(study: Study) -> None:
    """One file a kind from the arms that are done."""
    for kind in KINDS:
        files = sorted((study.out / kind).glob("*/rows.parquet"))
        if files:
            table = pa.concat_tables([pq.read_table(file) for file in files])
            write_rows(table.to_pylist(), study.out / f"{kind}.parquet")


def _identity(record: Record, arm: Arm, seed: int) -> dict[str, Any]:
    return {
        "arm": arm.name,
        "seed": seed,
        "image_id": record.image_id,
        "patient_id": record.patient_id,
        "fold": record.fold,
        "device": record.device,
        "malignant": record.malignant,
    }


def _steps(study: Study, batch_size: int) -> int:
    """Updates an epoch: those of one pass over the real pictures, in every arm."""
    return max(1, len(study.learned) // batch_size)


def _seeded(settings: LoopSettings, seed: int) -> LoopSettings:
    return LoopSettings(**{**asdict(settings), "seed": seed})


def _diagnose(study: Study, arm: Arm, seed: int, folder: Path) -> list[dict[str, Any]]:
    settings = _seeded(study.settings.diagnosis, seed)
    lesions = diagnosis_set(arm, study.learned, study.repository)
    fitted = diagnosis.fit_on(lesions, folder, settings, _steps(study, settings.batch_size))
    crops = np.stack([diagnosis.wide_crop(*pair) for pair in real(study.judged)])
    logits = diagnosis.logits_of(fitted.network, crops)
    return [
        {**_identity(record, arm, seed), "logit": float(logit)}
        for record, logit in zip(study.judged, logits, strict=True)
    ]


def _outline(study: Study, arm: Arm, seed: int, folder: Path) -> list[dict[str, Any]]:
    settings = _seeded(study.settings.segmentation, seed)
    squares, weight = segmentation_set(arm, study.learned, study.repository)
    steps = _steps(study, settings.batch_size)
    fitted = segmentation.fit_on(squares, folder, settings, steps, weight=weight)
    dice = segmentation.dice_of(fitted.network, squares_of(real(study.judged)))
    return [
        {**_identity(record, arm, seed), "dice": float(value)}
        for record, value in zip(study.judged, dice, strict=True)
    ]


def first_views(records: Sequence[Record], frames: FrameSet) -> list[int]:
    """Of every record the first frame, which shows its lesion."""
    return [int(np.argmax(frames.source == index)) for index in range(len(records))]


def _probe(study: Study, arm: Arm, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Scores of the probe; pictures are frames as the generator makes them, real ones cut the same way."""
    embed = Embedder(best_device())
    parts = []
    if arm.real:
        patients = [record.patient_id for record in study.learned]
        truth = np.array([record.malignant for record in study.learned])
        parts.append(_backgrounds(_real_frames(study, study.learned), truth, patients, embed))
    if arm.times:
        rows = lesion_rows(study.repository, arm.times * len(study.learned))
        truth = np.array([row.lesion_class == "malignant" for row in rows])
        pictures = [without_lesion(*pair) for pair in generated(study.repository, rows)]
        parts.append(_backgrounds(pictures, truth, [f"generated {row.index}" for row in rows], embed))
    joined = Backgrounds(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.malignant for part in parts]),
        [owner for part in parts for owner in part.owners],
        np.concatenate([part.weight / part.weight.sum() for part in parts]),
    )
    model, strength = fit_probe(joined, seed)
    scores = model.decision_function(features_of(_real_frames(study, study.judged), embed))
    return [
        {**_identity(record, arm, seed), "score": float(score), "strength": strength}
        for record, score in zip(study.judged, scores, strict=True)
    ]


def _real_frames(study: Study, records: Sequence[Record]) -> list[Grey]:
    frames = prepare(records, study.out / "frames", 1)
    return [without_lesion(frames.grey[i], frames.mask[i] > 0) for i in first_views(records, frames)]


def _backgrounds(
    pictures: Sequence[Grey], malignant: npt.NDArray[np.bool_], owners: Sequence[str], embed: Embedder
) -> Backgrounds:
    weight = patient_weights(owners, torch.from_numpy(malignant).float()).double().numpy()
    return Backgrounds(features_of(pictures, embed), malignant, owners, weight)
