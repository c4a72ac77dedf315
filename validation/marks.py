"""Do burnt-in marks carry the decision? Callipers and text are painted on pictures, and the answers compared.

Promises: the marks are drawn by this module alone, not by the painter that training augments with, so a
network cannot have learned these very shapes; places and styles are random and know nothing of the lesion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from models.data.record import Record
from models.runtime.loaded import Models
from validation.datasets import predict_images
from validation.statistics.roc import Interval, bootstrap_by_patient

PICTURES = 200
MAXIMUM_PROBABILITY_CHANGE, MAXIMUM_DICE_CHANGE = 0.02, 0.01
_WORDS = ("Dist 1", "Dist 2", "1.84 cm", "R 10h", "L UOQ", "+ D 9.6 mm", "MAMA D", "Gn 56", "FR 31", "AXILLA")


@dataclass(frozen=True)
class MarkChange:
    """Absolute change of one picture's answer by marks."""

    image_id: str
    patient_id: str
    probability: float
    dice: float


@dataclass(frozen=True)
class _Painted(Record):
    """A record whose picture carries marks; all else is the record's."""

    seed: int = 0

    def grey(self) -> npt.NDArray[np.uint8]:
        """The picture with marks, uint8 (rows, columns)."""
        return paint(super().grey(), np.random.default_rng(self.seed))


def paint(grey: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Two pairs of callipers with dotted lines, and lines of text, on a copy of a picture."""
    picture = Image.fromarray(grey)
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    for pair in range(2):
        shade = int(random.integers(200, 256))
        ends = random.uniform((0.05, 0.05), (0.95, 0.95), (2, 2)) * (width, height)
        for x, y in ends:
            arm = random.uniform(3, 6)
            if pair:
                draw.line((x - arm, y - arm, x + arm, y + arm), fill=shade)
                draw.line((x - arm, y + arm, x + arm, y - arm), fill=shade)
            else:
                draw.line((x - arm, y, x + arm, y), fill=shade)
                draw.line((x, y - arm, x, y + arm), fill=shade)
        for share in np.arange(0, 1, 0.03):
            x, y = ends[0] + share * (ends[1] - ends[0])
            draw.point((float(x), float(y)), fill=shade)
    font = ImageFont.load_default(size=int(random.integers(10, 17)))
    for word in random.choice(_WORDS, int(random.integers(1, 4)), replace=False):
        place = (random.uniform(0, 0.7) * width, random.uniform(0, 0.93) * height)
        draw.text(place, str(word), fill=int(random.integers(180, 256)), font=font)
    return np.asarray(picture)


def choose(records: Sequence[Record], seed: int) -> list[Record]:
    """`PICTURES` of the records at random (all where there are fewer), in their order."""
    order = np.random.default_rng(seed).permutation(len(records))[:PICTURES]
    return [records[index] for index in sorted(order)]


def compare(records: Sequence[Record], models: Models, seed: int) -> Iterator[MarkChange]:
    """Answer each picture as it is and painted."""
    painted = [_Painted(**vars(record), seed=seed + number) for number, record in enumerate(records)]
    answers = zip(predict_images(records, models), predict_images(painted, models), strict=True)
    for one, other in answers:
        yield MarkChange(
            one.image_id,
            one.patient_id,
            abs(one.probability - other.probability),
            abs(one.dice - other.dice),
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
