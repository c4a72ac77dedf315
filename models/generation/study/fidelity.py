"""How true to life generated pictures are: features, obedience, speckle, measured and not judged.

Promises: what looks at the pictures was trained on the other half and sees none of that half again: it looks
at generated pictures and, as the yardstick, at real ones of the generator's own half. Resumes within the
networks' training.

Files: features.npz (of ImageNet's encoder and of the outlining net, of the sets generated and learned, rows
as in obedience.parquet), obedience.parquet, speckle.parquet, fidelity.json. Sets: generated; learned (real,
of the generator's half); other (real, of the other half: speckle alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from models.data.prediction import write_rows
from models.data.record import Record
from models.diagnosis import train as diagnosis
from models.diagnosis.network import DiagnosisNet
from models.generation.kid import Embedder
from models.generation.product import Generator
from models.generation.study.arms import (
    DIAGNOSIS,
    SEGMENTATION,
    diagnosis_set,
    generated,
    largest,
    lesion_rows,
    segmentation_set,
)
from models.generation.study.pin import pin_of
from models.generation.study.privacy import Half
from models.generation.study.probe import features_of
from models.generation.study.run import StudySettings
from models.generation.study.speckle import speckle_of
from models.segmentation import train as segmentation
from models.segmentation.network import LesionNet
from models.segmentation.train import Squares, squares_of
from models.training.device import device_of
from models.training.loop import LoopSettings
from models.training.run import begin_run, write_arrays

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
REAL = DIAGNOSIS[0]
DEVICE_STRENGTH = 0.01  # C of the classifier of devices


@dataclass(frozen=True)
class PictureSet:
    """Squares of one kind, uint8 and bool (n, s, s), and what they are or were asked to be."""

    name: str
    grey: Grey
    mask: Mask
    ids: Sequence[str]
    patients: Sequence[str]
    malignant: Sequence[bool]
    devices: Sequence[str]


def real_set(name: str, half: Half) -> PictureSet:
    """One square a record, cut around its lesion."""
    views = half.first_lesion_views()
    return PictureSet(
        name,
        half.frames.grey[views],
        half.frames.mask[views] > 0,
        [record.image_id for record in half.records],
        [record.patient_id for record in half.records],
        [record.malignant for record in half.records],
        [record.device for record in half.records],
    )


def generated_set(repository: Path, count: int) -> PictureSet:
    """The first `count` generated pictures of lesions."""
    rows = lesion_rows(repository, count)
    pairs = list(generated(repository, rows))
    names = [str(row.index) for row in rows]
    return PictureSet(
        "generated",
        np.stack([grey for grey, _ in pairs]),
        np.stack([mask for _, mask in pairs]),
        names,
        names,
        [row.lesion_class == "malignant" for row in rows],
        [row.device for row in rows],
    )


def measure_fidelity(
    generator: Generator,
    learned: Half,
    other: Half,
    repository: Path,
    out: Path,
    count: int,
    settings: StudySettings,
) -> None:
    """Measure into `out`, with the first `count` generated pictures of lesions.

    Raises
    ------
    RunDiffersError
        `out` holds the measures of another generator or repository.
    DataError
        The repository holds fewer pictures of lesions.
    """
    made = generated_set(repository, count)
    pin = pin_of(repository, lesion_rows(repository, count))
    facts = {"model": generator.digest, "generated": count, "settings": asdict(settings), "pin": pin}
    begin_run(out, facts, "fidelity.json")
    outliner = _outliner(other.records, repository, out / "judges" / "segmentation", settings.segmentation)
    classifier = _classifier(other.records, repository, out / "judges" / "diagnosis", settings.diagnosis)
    looked_at = (made, real_set("learned", learned))
    apart = real_set("other", other)
    embed = Embedder(generator.device)
    features = {one.name: features_of(list(one.grey), embed) for one in looked_at}
    squares = {one.name: squares_of(zip(one.grey, one.mask, strict=True)) for one in looked_at}
    own = {f"outline_{name}": _outline_features(outliner, part) for name, part in squares.items()}
    arrays = {**{f"imagenet_{name}": values for name, values in features.items()}, **own}
    write_arrays(out / "features.npz", arrays)
    devices = _device_classifier(features_of(list(apart.grey), embed), apart.devices)
    rows: list[dict[str, Any]] = []
    for one in looked_at:
        seen = devices.predict(features[one.name]) if devices else [""] * len(one.ids)
        rows += _obedience(one, outliner, classifier, squares[one.name], seen)
    write_rows(rows, out / "obedience.parquet")
    write_rows([row for one in (*looked_at, apart) for row in _speckle(one)], out / "speckle.parquet")


def _outliner(
    records: Sequence[Record], repository: Path, folder: Path, settings: LoopSettings
) -> torch.nn.Module:
    """The outlining net trained on real pictures of `records`."""
    if not (folder / "weights.pt").exists():
        squares, weight = segmentation_set(SEGMENTATION[0], records, repository)
        segmentation.fit_on(
            squares, folder, settings, max(1, len(records) // settings.batch_size), weight=weight
        )
    return _loaded(LesionNet(pretrained=False), folder)


def _classifier(
    records: Sequence[Record], repository: Path, folder: Path, settings: LoopSettings
) -> torch.nn.Module:
    """The diagnosis net trained on real pictures of `records`."""
    if not (folder / "weights.pt").exists():
        lesions = diagnosis_set(REAL, records, repository)
        diagnosis.fit_on(lesions, folder, settings, max(1, len(records) // settings.batch_size))
    return _loaded(DiagnosisNet(pretrained=False), folder)


def _loaded(network: torch.nn.Module, folder: Path) -> torch.nn.Module:
    network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    return network.eval().requires_grad_(False)


@torch.no_grad()
def _outline_features(network: torch.nn.Module, squares: Squares) -> npt.NDArray[np.float32]:
    grey, device = torch.from_numpy(squares.grey).unsqueeze(1), device_of(network)
    features: npt.NDArray[np.float32] = torch.cat(
        [network(part.to(device).float() / 255)[1].cpu() for part in grey.split(64)]
    ).numpy()
    return features


def _device_classifier(features: npt.NDArray[np.float32], devices: Sequence[str]) -> Pipeline | None:
    """What tells devices apart; None where there is one only."""
    if len(set(devices)) < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=DEVICE_STRENGTH, max_iter=2000))
    return model.fit(features, np.asarray(devices))


def _obedience(
    one: PictureSet,
    outliner: torch.nn.Module,
    classifier: torch.nn.Module,
    squares: Squares,
    devices: Sequence[str] | npt.NDArray[Any],
) -> list[dict[str, Any]]:
    """What was asked of each picture (or is true of a real one), and what the networks see in it.

    `devices`: seen of each; empty where there was one only to learn from.
    """
    dice = segmentation.dice_of(outliner, squares)
    crops = [diagnosis.wide_crop(grey, largest(mask)) for grey, mask in zip(one.grey, one.mask, strict=True)]
    logits = diagnosis.logits_of(classifier, np.stack(crops))
    return [
        {
            "set": one.name,
            "id": one.ids[i],
            "patient_id": one.patients[i],
            "malignant": bool(one.malignant[i]),
            "logit": float(logits[i]),
            "device": one.devices[i],
            "device_seen": str(devices[i]),
            "dice": float(dice[i]),
        }
        for i in range(len(one.ids))
    ]


def _speckle(one: PictureSet) -> list[dict[str, Any]]:
    """Statistics of the pictures with tissue enough for a window."""
    rows = []
    for i, (grey, mask) in enumerate(zip(one.grey, one.mask, strict=True)):
        found = speckle_of(grey, mask)
        if found is not None and np.isfinite(found.shape):
            rows.append({"set": one.name, "id": one.ids[i], "patient_id": one.patients[i], **asdict(found)})
    return rows
