"""Do burnt-in marks carry the decision? Callipers and text are painted on pictures, and the answers compared.

Promises: the marks are drawn by this module alone, not by the painter that training augments with, so a
network cannot have learned these very shapes. Two placements: at random, knowing nothing of the lesion, and
with the callipers where a sonographer puts them, at the ends of the lesion's axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from models.data.record import Record
from models.runtime.loaded import Models
from validation.datasets import predict_images
from validation.statistics.bootstrap import bootstrap_by_patient
from validation.statistics.interval import Interval

PICTURES = 200
MAXIMUM_PROBABILITY_CHANGE, MAXIMUM_DICE_CHANGE = 0.02, 0.01
_WORDS = ("Dist 1", "Dist 2", "1.84 cm", "R 10h", "L UOQ", "+ D 9.6 mm", "MAMA D", "Gn 56", "FR 31", "AXILLA")


class Placement(StrEnum):
    """Where the callipers stand."""

    RANDOM = "random"
    AXIS_ENDS = "axis-ends"


@dataclass(frozen=True)
class MarkChange:
    """Absolute change of one picture's answer by marks."""

    image_id: str
    patient_id: str
    placement: str
    probability: float
    dice: float


@dataclass(frozen=True)
class _Painted(Record):
    """A record whose picture carries marks; all else is the record's."""

    seed: int = 0
    ends: npt.NDArray[np.float64] | None = None

    def grey(self) -> npt.NDArray[np.uint8]:
        """The picture with marks, uint8 (rows, columns)."""
        return paint(super().grey(), np.random.default_rng(self.seed), self.ends)


def axis_ends(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Ends (2 axes, 2 ends, x and y) of the principal axes of a mask with at least one pixel."""
    points = np.argwhere(mask)[:, ::-1].astype(np.float64)
    centre = points.mean(axis=0)
    _, _, axes = np.linalg.svd(points - centre, full_matrices=False)
    along = (points - centre) @ axes.T
    return np.stack(
        [centre + np.outer((along[:, k].min(), along[:, k].max()), axes[k]) for k in range(len(axes))]
    )


def paint(
    grey: npt.NDArray[np.uint8],
    random: np.random.Generator,
    ends: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.uint8]:
    """Two pairs of callipers with dotted lines, at `ends` or at random, and lines of text, on a copy."""
    picture = Image.fromarray(grey)
    draw = ImageDraw.Draw(picture)
    size = np.array(picture.size)
    for pair in range(2):
        place = random.uniform(0.05, 0.95, (2, 2)) * size if ends is None else ends[min(pair, len(ends) - 1)]
        _callipers(draw, place, diagonal=bool(pair), random=random)
    font = ImageFont.load_default(size=int(random.integers(10, 17)))
    for word in random.choice(_WORDS, int(random.integers(1, 4)), replace=False):
        x, y = random.uniform((0, 0), (0.7, 0.93)) * size
        draw.text((float(x), float(y)), str(word), fill=int(random.integers(180, 256)), font=font)
    return np.asarray(picture)


def _callipers(
    draw: ImageDraw.ImageDraw, ends: npt.NDArray[np.float64], *, diagonal: bool, random: np.random.Generator
) -> None:
    shade = int(random.integers(200, 256))
    for x, y in ends:
        arm = random.uniform(3, 6)
        if diagonal:
            draw.line((x - arm, y - arm, x + arm, y + arm), fill=shade)
            draw.line((x - arm, y + arm, x + arm, y - arm), fill=shade)
        else:
            draw.line((x - arm, y, x + arm, y), fill=shade)
            draw.line((x, y - arm, x, y + arm), fill=shade)
    for share in np.arange(0, 1, 0.03):
        x, y = ends[0] + share * (ends[1] - ends[0])
        draw.point((float(x), float(y)), fill=shade)


def choose(records: Sequence[Record], seed: int) -> list[Record]:
    """`PICTURES` of the records at random (all where there are fewer), in their order."""
    order = np.random.default_rng(seed).permutation(len(records))[:PICTURES]
    return [records[index] for index in sorted(order)]


def compare(
    records: Sequence[Record], models: Models, seed: int, placements: Sequence[Placement] = tuple(Placement)
) -> Iterator[MarkChange]:
    """Answer each picture as it is and painted, once for each placement."""
    for number, record in enumerate(records):
        painted = [
            _Painted(
                **vars(record),
                seed=seed + number,
                ends=axis_ends(record.mask()) if placement is Placement.AXIS_ENDS else None,
            )
            for placement in placements
        ]
        plain, *others = predict_images([record, *painted], models)
        for placement, other in zip(placements, others, strict=True):
            yield MarkChange(
                plain.image_id,
                plain.patient_id,
                placement.value,
                abs(plain.probability - other.probability),
                abs(plain.dice - other.dice),
            )


def mean_change(
    changes: Sequence[MarkChange], column: str, resamples: int, seed: int
) -> tuple[float, Interval]:
    """Mean of `probability` or `dice` over the pictures, with its interval by resampling patients."""
    values = np.array([getattr(change, column) for change in changes])
    patients = [change.patient_id for change in changes]
    interval = bootstrap_by_patient(
        lambda rows: float(values[rows].mean()), patients, resamples=resamples, seed=seed
    )
    return float(values.mean()), interval
