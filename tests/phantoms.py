"""Phantoms whose truth is known: dark ellipses drawn into the lesion-free tissue of a sample picture.

Drawn so that the shipped models see breast ultrasound with lesions; no evidence of accuracy.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

from app.demo.studies import SAMPLES
from tests.operators.made_files import compressed, image, jpeg, region, save, with_regions

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Ellipse:
    """A drawn lesion: centre and half axes in pixels, the first one `degrees` from the horizontal."""

    x: float
    y: float
    along: float
    across: float
    degrees: float = 0.0

    def radius(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Distance of every pixel from the centre, 1 on the border: (rows, columns)."""
        y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
        turn = np.radians(self.degrees)
        dx, dy = x - self.x, y - self.y
        one, other = dx * np.cos(turn) + dy * np.sin(turn), -dx * np.sin(turn) + dy * np.cos(turn)
        return np.asarray(np.hypot(one / self.along, other / self.across))


@functools.cache
def tissue(columns: int = 640, rows: int = 480, *, deep: bool = False) -> Grey:
    """Real breast tissue, uint8 (rows, columns), without a lesion; `deep`: more of it, with a faint one."""
    with Image.open(SAMPLES / "bus_0005-l.png") as picture:
        width, height = picture.size
        box = (0, 0, width, height * 8 // 10) if deep else (width // 2, 0, width, height * 4 // 10)
        part = picture.convert("L").crop(box)
    return np.asarray(part.resize((columns, rows), Image.Resampling.BICUBIC))


def draw(lesions: Sequence[Ellipse], grey: Grey | None = None) -> Grey:
    """The tissue with lesions: a fifth as bright inside, brighter below (enhancement)."""
    picture = (tissue() if grey is None else grey).astype(np.float64)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    for lesion in lesions:
        radius = lesion.radius(picture.shape)
        inside = np.clip((1 - radius) * min(lesion.along, lesion.across) / 2 + 0.5, 0, 1)
        below = (np.abs(x - lesion.x) < 0.8 * lesion.along) & (y > lesion.y) & (radius >= 1)
        picture *= np.where(below, 1.25, 1 - 0.8 * inside)
    return np.clip(picture, 0, 255).astype(np.uint8)


def cine(path: Path, frames: Sequence[Grey], **more: object) -> Path:
    """A JPEG multi-frame file; equal objects in `frames` are compressed once."""
    streams = {id(frame): jpeg(frame) for frame in frames}
    rows, columns = frames[0].shape
    ds = compressed(
        image(np.zeros((1, rows, columns), np.uint8), path.name, **more),
        [streams[id(frame)] for frame in frames],
        JPEGBaseline8Bit,
    )
    ds.NumberOfFrames = len(frames)
    return save(with_regions(ds, region(0, 0, columns - 1, rows - 1, 0.007)), path)


def still(path: Path, grey: Grey, **more: object) -> Path:
    """A single-frame file with one region of 0.07 mm a pixel."""
    rows, columns = grey.shape
    return save(
        with_regions(image(grey, path.name, **more), region(0, 0, columns - 1, rows - 1, 0.007)), path
    )


def sweep(count: int, first: int, last: int, lesion: Ellipse) -> list[Grey]:
    """Frames of a sweep: the lesion's cut grows from `first` to the middle and shrinks until `last`."""
    frames = [tissue()] * count
    for number in range(first, last + 1):
        phase = (number - first + 1) / (last - first + 2)
        size = float(np.sin(np.pi * phase)) ** 0.5
        cut = Ellipse(lesion.x + 40 * (phase - 0.5), lesion.y, lesion.along * size, lesion.across * size)
        frames[number - 1] = draw([cut])
    return frames
