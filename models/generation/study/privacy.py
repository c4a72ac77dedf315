"""Privacy of a generator, measured: neighbours, twins, retrieval, membership.

Promises: distances and losses only, no figure: whether they are good enough is judged from the files
written. Patients set aside in training are told from those learned from.

Neighbours and index hold all pictures of the folds learned from, those of the patients set aside among
them: keeping away from all is the harder task, and no patient's pictures may come back, learned from or not.

Files: neighbours.parquet (generated and real pictures to the nearest one of those folds), twins.parquet
(the nearest pairs within the generated set, and within the real one), membership.parquet, privacy.json
(with what the pictures were drawn with: solver, seed, index kept away from and its thresholds where they
are known).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.data.prediction import write_rows
from models.data.record import Record
from models.generation.conditions import CLASSES, NO_LESION
from models.generation.frames import FrameSet, prepare
from models.generation.kid import Embedder
from models.generation.nearest import (
    all_features,
    all_pixels,
    feature_vectors,
    nearest_features,
    nearest_pixels,
    pixel_vectors,
    save_index,
)
from models.generation.product import Generator
from models.generation.repository import rejected_count, repository_facts
from models.generation.study.arms import generated, lesion_rows
from models.generation.study.membership import DRAWS, losses
from models.generation.study.pin import pin_of
from models.generation.study.twins import twin_rows
from models.training.run import begin_run

Grey = npt.NDArray[np.uint8]
MASK_SIDE = 32  # px at which outlines are compared
# Quantile of real distances below which a draw is thrown away. The first percentile, below which a
# picture counts as a copy, rests on a dozen frames of the few patients set aside: too few.
REJECTED = 0.05


@dataclass(frozen=True)
class Half:
    """Records and their frames. `aside`: patients that the generator set aside (empty of another half)."""

    records: Sequence[Record]
    frames: FrameSet
    aside: frozenset[str]

    def owners(self, chosen: npt.NDArray[np.int64]) -> list[str]:
        """Whose the frames are."""
        return [self.records[self.frames.source[i]].patient_id for i in chosen]

    def shows_lesion(self) -> npt.NDArray[np.bool_]:
        """Of every frame, whether it was cut around the lesion."""
        shows: npt.NDArray[np.bool_] = self.frames.labels[:, 0] != CLASSES.index(NO_LESION)
        return shows

    def first_lesion_views(self) -> npt.NDArray[np.int64]:
        """Of every record the first frame, which is cut around the lesion."""
        return np.array([np.argmax(self.frames.source == i) for i in range(len(self.records))])

    def learned_from(self) -> npt.NDArray[np.int64]:
        """Frames of patients that were not set aside."""
        own = [self.records[i].patient_id not in self.aside for i in self.frames.source]
        return np.flatnonzero(own)


def half_of(records: Sequence[Record], facts: Mapping[str, Any], cache: Path) -> Half:
    """Records with their frames, cut as the generator of `facts` cut its own."""
    frames = prepare(records, cache, int(facts["seed"]))
    return Half(records, frames, frozenset(facts["validation_patients"]))


def write_index(learned: Half, path: Path, quantile: float = REJECTED) -> dict[str, float]:
    """The index of all pictures of the folds learned from; its thresholds, from the patients set aside.

    The threshold is this quantile of what the frames of patients set aside keep from those learned from;
    where none shows tissue alone, that of lesions stands for both.
    """
    vectors = pixel_vectors(learned.frames.grey)
    inside, lesion = learned.learned_from(), learned.shows_lesion()
    aside = np.setdiff1d(np.arange(len(vectors)), inside)
    distance = nearest_pixels(vectors[aside], vectors[inside]).distance
    thresholds = {}
    for kind, own in (("lesion", lesion[aside]), ("tissue", ~lesion[aside])):
        chosen = own if own.any() else np.ones(len(aside), bool)
        thresholds[kind] = float(np.quantile(distance[chosen], quantile))
    save_index(vectors, thresholds, path)
    return thresholds


def measure_privacy(
    generator: Generator, learned: Half, other: Half, repository: Path, out: Path, count: int, seed: int = 1
) -> None:
    """Measure into `out`, with the first `count` generated pictures of lesions.

    Raises
    ------
    RunDiffersError
        `out` holds the measures of another generator or repository.
    DataError
        The repository holds fewer pictures of lesions.
    """
    rows = lesion_rows(repository, count)
    facts = {
        "model": generator.digest,
        "generated": count,
        "seed": seed,
        "draws": DRAWS,
        "images_learned": len(learned.records),
        "patients_aside": len(learned.aside),
        "images_other": len(other.records),
        "rejected": rejected_count(repository),
        "epochs": generator.facts.get("epochs"),
        "drawn_with": repository_facts(repository),
        "pin": pin_of(repository, rows),
    }
    begin_run(out, facts, "privacy.json")
    pairs = list(generated(repository, rows))
    pictures = np.stack([grey for grey, _ in pairs])
    masks = np.stack([mask for _, mask in pairs])
    embed = Embedder(generator.device)
    _write_neighbours(learned, other, pictures, masks, embed, out)
    _write_twins(learned, pictures, embed, out)
    _write_membership(generator, learned, other, out, seed)


def _write_neighbours(
    learned: Half, other: Half, pictures: Grey, masks: npt.NDArray[np.bool_], embed: Embedder, out: Path
) -> None:
    lesions = np.flatnonzero(learned.shows_lesion())
    owners = learned.owners(lesions)
    reference = learned.frames.grey[lesions]
    pixels, features = pixel_vectors(reference), feature_vectors(reference, embed)
    outlines = _outline_vectors(learned.frames.mask[lesions])
    views = other.first_lesion_views()
    names = [record.image_id for record in other.records]
    rows = []
    for kind, ids, grey, mask in (
        ("generated", [str(i) for i in range(len(pictures))], pictures, masks),
        ("other", names, other.frames.grey[views], other.frames.mask[views] > 0),
    ):
        by_pixel = nearest_pixels(pixel_vectors(grey), pixels)
        by_feature = nearest_features(feature_vectors(grey, embed), features)
        by_mask = nearest_features(_outline_vectors(mask), outlines)
        rows += [
            {
                "kind": kind,
                "id": ids[i],
                "pixel_distance": float(by_pixel.distance[i]),
                "pixel_patient": owners[by_pixel.position[i]],
                "feature_distance": float(by_feature.distance[i]),
                "feature_patient": owners[by_feature.position[i]],
                "mask_patient": owners[by_mask.position[i]],
            }
            for i in range(len(grey))
        ]
    write_rows(rows, out / "neighbours.parquet")


def _outline_vectors(masks: npt.NDArray[Any]) -> torch.Tensor:
    """Masks (n, s, s) in small, as vectors of length 1: their product is near 1 where they overlap."""
    grey = torch.from_numpy(np.asarray(masks, np.float32)).unsqueeze(1)
    small = torch.nn.functional.interpolate(grey, size=(MASK_SIDE, MASK_SIDE), mode="area").flatten(1)
    return torch.nn.functional.normalize(small, eps=1e-3)


def _write_twins(learned: Half, pictures: Grey, embed: Embedder, out: Path) -> None:
    """The nearest pairs of generated pictures, and of real ones of different patients, a frame a picture."""
    made, real = (
        {"pixel": all_pixels(pixel_vectors(grey)), "feature": all_features(feature_vectors(grey, embed))}
        for grey in (pictures, learned.frames.grey[learned.first_lesion_views()])
    )
    names = {
        "generated": [str(i) for i in range(len(pictures))],
        "real": [record.image_id for record in learned.records],
    }
    owners = [record.patient_id for record in learned.records]
    write_rows(twin_rows(made, real, names, owners), out / "twins.parquet")


def _write_membership(generator: Generator, learned: Half, other: Half, out: Path, seed: int) -> None:
    rows = []
    for half, name in ((learned, "member"), (other, "other")):
        values = losses(generator, half.frames, len(half.records), seed)
        rows += [
            {
                "part": "aside" if record.patient_id in half.aside else name,
                "image_id": record.image_id,
                "patient_id": record.patient_id,
                "malignant": record.malignant,
                "loss": float(value),
            }
            for record, value in zip(half.records, values, strict=True)
        ]
    write_rows(rows, out / "membership.parquet")
