"""Are burnt-in marks found? Recall on painted and on real callipers, false marks, and the area that is lost.

Promises: the painted marks are not drawn by the painter that the network learned from; the real ones were
marked by eye, before the network was tried on these pictures, on patients it has not seen (folds 3 and 4).
A calliper is found where the mask covers `MINIMUM_PIXELS` of the disc of `RADIUS_PX` around its centre; a
dotted line where it covers half of its dots.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from models.data.record import DataError, Record
from models.runtime.marks import MarkModel, Marks
from models.training.marks import Style, draw_calliper
from validation.statistics.bootstrap import bootstrap_by_patient
from validation.statistics.interval import Interval

LABELS = Path(__file__).with_name("measurements") / "callipers.csv"
JUDGED_FOLDS = (3, 4)
MINIMUM_RECALL = 0.9
CALLIPERS = 4  # painted on a picture, all of one style
RADIUS_PX, MINIMUM_PIXELS = 4, 8
NONE = "none"
_ARM, _SHADE = (3.0, 6.0), (200, 256)

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Calliper:
    """One mark with its truth: the centre (x, y), or the dots of a dotted line."""

    style: str
    points: Points


@dataclass(frozen=True)
class Found:
    """Whether one calliper was found. `source` is "painted" or "real"."""

    image_id: str
    patient_id: str
    source: str
    style: str
    found: bool


@dataclass(frozen=True)
class Area:
    """What was taken for marks on a picture as published: share of its pixels, and pieces."""

    image_id: str
    patient_id: str
    strokes: float
    blocks: float
    pieces: int


def read_labels(path: Path = LABELS) -> dict[str, tuple[Calliper, ...]]:
    """Callipers marked by eye, by image; an image looked at that carries none has an empty tuple."""
    labels: dict[str, tuple[Calliper, ...]] = {}
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            here = labels.setdefault(row["image_id"], ())
            if row["style"] != NONE:
                centre = (float(row["x"]), float(row["y"]))
                labels[row["image_id"]] = (*here, Calliper(row["style"], (centre,)))
    return labels


def paint_callipers(
    grey: npt.NDArray[np.uint8], style: Style, random: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], tuple[Calliper, ...]]:
    """`CALLIPERS` marks of a style at random places on a copy, and where they are."""
    picture = Image.fromarray(grey)
    draw = ImageDraw.Draw(picture)
    size = np.array(picture.size)
    drawn = []
    for _ in range(CALLIPERS):
        x, y = np.rint(random.uniform(8, size - 8)).astype(int)
        shade = int(random.integers(*_SHADE))
        if style is Style.DOTTED:
            end = np.rint(random.uniform(8, size - 8)).astype(int)
            drawn.append(Calliper(style.value, _dotted(draw, (x, y), tuple(end), shade)))
        else:
            draw_calliper(draw, (int(x), int(y)), random.uniform(*_ARM), shade, style, random)
            drawn.append(Calliper(style.value, ((float(x), float(y)),)))
    return np.asarray(picture), tuple(drawn)


def _dotted(draw: ImageDraw.ImageDraw, start: Sequence[int], end: Sequence[int], shade: int) -> Points:
    """Single pixels, five apart, from start to end."""
    (x0, y0), (x1, y1) = start, end
    count = max(2, round(np.hypot(x1 - x0, y1 - y0) / 5))
    dots = tuple(
        (float(round(x0 + share * (x1 - x0))), float(round(y0 + share * (y1 - y0))))
        for share in np.linspace(0, 1, count)
    )
    draw.point(dots, fill=shade)
    return dots


def is_found(mask: npt.NDArray[np.bool_], calliper: Calliper) -> bool:
    """Whether a mask, bool (rows, columns), holds a calliper (see the module)."""
    if len(calliper.points) > 1:
        near = ndimage.binary_dilation(mask, np.ones((3, 3)))
        return float(np.mean([near[round(y), round(x)] for x, y in calliper.points])) >= 0.5
    ((x, y),) = calliper.points
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    disc = (columns - x) ** 2 + (rows - y) ** 2 <= RADIUS_PX**2
    return int((mask & disc).sum()) >= MINIMUM_PIXELS


def judged_records(records: Sequence[Record], labels: dict[str, tuple[Calliper, ...]]) -> list[Record]:
    """The records of the labelled pictures.

    Raises
    ------
    DataError
        A labelled picture is missing, or of another fold.
    """
    by_id = {record.image_id: record for record in records}
    missing = [name for name in labels if name not in by_id or by_id[name].fold not in JUDGED_FOLDS]
    if missing:
        raise DataError(f"{missing[0]} of the labels is no image of folds 3 and 4: give BUS-BRA as published")
    return [by_id[name] for name in sorted(labels)]


def find_real(
    records: Sequence[Record], labels: dict[str, tuple[Calliper, ...]], model: MarkModel
) -> Iterator[tuple[Area, tuple[Found, ...]]]:
    """Each labelled picture as published: the area taken for marks, and which callipers were found."""
    for record in records:
        marks = model.find(record.grey())
        yield _area(record, marks), _found(record, "real", labels[record.image_id], marks)


def find_painted(records: Sequence[Record], model: MarkModel, seed: int) -> Iterator[tuple[Found, ...]]:
    """Each picture with painted callipers, the styles in turn."""
    styles = tuple(Style)
    for number, record in enumerate(records):
        random = np.random.default_rng(seed + number)
        painted, drawn = paint_callipers(record.grey(), styles[number % len(styles)], random)
        yield _found(record, "painted", drawn, model.find(painted))


def _found(record: Record, source: str, callipers: Sequence[Calliper], marks: Marks) -> tuple[Found, ...]:
    return tuple(
        Found(record.image_id, record.patient_id, source, one.style, is_found(marks.mask, one))
        for one in callipers
    )


def _area(record: Record, marks: Marks) -> Area:
    _, pieces = ndimage.label(marks.blocks)
    strokes, blocks = float(marks.mask.mean()), float(marks.blocks.mean())
    return Area(record.image_id, record.patient_id, strokes, blocks, int(pieces))


def recall(found: Sequence[Found], resamples: int, seed: int) -> tuple[float, Interval]:
    """Share of callipers found, with its interval by resampling patients."""
    values = np.array([one.found for one in found], np.float64)
    interval = bootstrap_by_patient(
        lambda rows: float(values[rows].mean()),
        [one.patient_id for one in found],
        resamples=resamples,
        seed=seed,
    )
    return float(values.mean()), interval


def recall_lines(source: str, found: Sequence[Found], resamples: int, seed: int) -> Iterator[str]:
    """Recall of all callipers of a source and of each style, in words."""
    share, interval = recall(found, resamples, seed)
    pictures = len({one.image_id for one in found})
    verdict = "met" if share >= MINIMUM_RECALL else "missed"
    yield (
        f"{source} callipers: recall {share:.3f} ({interval.low:.3f} to {interval.high:.3f}), "
        f"n = {len(found)} on {pictures} pictures; target {MINIMUM_RECALL}: {verdict}"
    )
    for style in sorted({one.style for one in found}):
        hits = [one.found for one in found if one.style == style]
        yield f"  {style}: {np.mean(hits):.3f}, n = {len(hits)}"


def area_line(areas: Sequence[Area]) -> str:
    """What is taken for marks on pictures as published, real marks among it, in words."""
    strokes, blocks, pieces = (
        float(np.mean([getattr(area, name) for area in areas])) for name in ("strokes", "blocks", "pieces")
    )
    return (
        f"taken for marks, a picture: {strokes:.2%} of the pixels, {blocks:.2%} with their surroundings, "
        f"{pieces:.1f} pieces; n = {len(areas)} pictures"
    )
