"""Square frames for the generator: cut from BUS-BRA pictures, with and without the lesion.

Promises: pictures have passed through the product's own suppression of marks; aspect is kept; every
frame of a lesion shows it whole; lesion-free frames come from tissue away from it. Lines of text that the
product leaves are suppressed as well. Where marks were suppressed is kept, so that the generator can be
asked for pictures without such places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.data.record import Record, data_hash
from models.generation.conditions import Condition, condition_of, tissue_condition
from models.generation.text import find_text
from models.runtime.preprocess import fill_marks, find_marks
from models.training.run import cached

SIDE = 128  # px of a frame
MARKS_SIDE = 16  # px of the map of suppressed marks
LESION_VIEWS, TISSUE_VIEWS = 8, 2  # frames cut from one picture
_TRIES = 60
Box = tuple[int, int, int]  # left, top, side, px of the picture


@dataclass(frozen=True)
class FrameSet:
    """Frames of `n` views.

    grey : uint8 (n, 128, 128)
    mask : uint8 (n, 128, 128), 0 or 1
    marks : uint8 (n, 16, 16), share of suppressed pixels in 255ths
    labels : int64 (n, 4), indices in the order of `conditions.VOCABULARIES`
    zoom : float32 (n,), side of the frame as a share of the picture's shorter side
    source : int64 (n,), index of the record each came from
    """

    grey: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    marks: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    zoom: npt.NDArray[np.float32]
    source: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Picture:
    """A whole picture, uint8 (rows, columns), its lesion, bool (rows, columns), and what both show.

    `removed`: bool (rows, columns), where marks were removed before.
    """

    grey: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    lesion: Condition
    device: str
    removed: npt.NDArray[np.bool_] | None = None


def frames_hash(frames: FrameSet) -> str:
    """SHA-256 over all frames and what is known of them: other outlines or pictures give another one."""
    digest = hashlib.sha256()
    for name, values in vars(frames).items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def prepare(records: Sequence[Record], cache: Path, seed: int) -> FrameSet:
    """All frames of `records`; kept under `cache` for the next run on the same data."""

    def make() -> dict[str, npt.NDArray[Any]]:
        pictures = (Picture(r.grey(), r.mask(), condition_of(r), r.device) for r in records)
        return vars(frames_of(pictures, seed))

    path = cache / f"frames-{SIDE}-{seed}-{data_hash(records)[:12]}.npz"
    return FrameSet(**cached(path, make))


def frames_of(pictures: Iterable[Picture], seed: int) -> FrameSet:
    """Frames cut from pictures of which each gives one at least."""
    parts = [_cut_frames(picture, np.random.default_rng([seed, i])) for i, picture in enumerate(pictures)]
    source = [np.full(len(part["grey"]), i) for i, part in enumerate(parts)]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return FrameSet(**joined, source=np.concatenate(source))


def _cut_frames(picture: Picture, random: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    grey, mask = picture.grey, picture.mask
    marks = find_marks(grey)
    text = find_text(fill_marks(grey, marks))
    clean, marks = fill_marks(fill_marks(grey, marks), text), marks | text
    if picture.removed is not None:
        marks = marks | picture.removed
    boxes = [(lesion_box(mask, random), True) for _ in range(LESION_VIEWS if mask.any() else 0)]
    boxes += [(box, False) for box in tissue_boxes(mask, TISSUE_VIEWS, random)]
    rows: list[dict[str, npt.NDArray[Any]]] = []
    for (left, top, side), lesion in boxes:
        area = (left, top, left + side, top + side)
        condition = picture.lesion if lesion else tissue_condition(picture.device)
        rows.append(
            {
                "grey": _cut(clean, area, SIDE),
                "mask": (_cut(mask * np.uint8(255), area, SIDE) > 127).astype(np.uint8),
                "marks": _cut(marks * np.uint8(255), area, MARKS_SIDE),
                "labels": np.array(condition.indices(), np.int64),
                "zoom": np.array(side / min(grey.shape), np.float32),
            }
        )
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def lesion_box(mask: npt.NDArray[np.bool_], random: np.random.Generator) -> Box:
    """A random square that holds the lesion: from 1.5 times its size up to the picture's shorter side."""
    rows, columns = mask.shape
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = ys[0], ys[-1] + 1, xs[0], xs[-1] + 1
    longer, shorter = max(bottom - top, right - left), min(rows, columns)
    smallest = max(1.5 * longer, 0.6 * shorter)
    largest = max(shorter, 1.15 * longer)
    side = round(random.uniform(min(smallest, largest), largest))
    return (
        _place(left, right, columns, side, random),
        _place(top, bottom, rows, side, random),
        side,
    )


def _place(start: int, stop: int, length: int, side: int, random: np.random.Generator) -> int:
    """Where the square begins along one axis: inside the picture if it fits, around `start`..`stop`."""
    if side >= length:
        return -((side - length) // 2)
    low, high = max(0, stop - side), min(start, length - side)
    return int(random.integers(low, high + 1)) if high >= low else max(0, min(low, length - side))


def tissue_boxes(mask: npt.NDArray[np.bool_], count: int, random: np.random.Generator) -> list[Box]:
    """Up to `count` squares inside the picture that keep away from the lesion."""
    rows, columns = mask.shape
    shorter, found = min(rows, columns), []
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    for _ in range(_TRIES):
        side = round(random.uniform(0.42, 0.8) * shorter)
        left, top = int(random.integers(0, columns - side + 1)), int(random.integers(0, rows - side + 1))
        margin = 0.04 * shorter
        apart = not len(ys) or (
            left > xs[-1] + margin
            or left + side < xs[0] - margin
            or top > ys[-1] + margin
            or top + side < ys[0] - margin
        )
        if apart:
            found.append((left, top, side))
            if len(found) == count:
                break
    return found


def _cut(picture: npt.NDArray[np.uint8], area: tuple[int, int, int, int], side: int) -> npt.NDArray[np.uint8]:
    cut = Image.fromarray(picture).crop(area)  # outside the picture: 0
    return np.asarray(cut.resize((side, side), Image.Resampling.BILINEAR), np.uint8)
