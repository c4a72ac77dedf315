"""Follow lesions through the frames of a cine and choose the frames that stand for them.

Promises: neighbouring frames' lesions are one track, over up to two looked-at frames on which the lesion was
missed; every sighting is in exactly one track; the result does not depend on the order of the sightings.

Key frames. The quality of a sighting is the product of three ratios, each to the greatest of its track:
detection score (mean probability inside the outline), size (square root of the outlined area) and sharpness
(mean squared gradient, "Tenengrad": Krotkov 1988, in the lesion's box widened by a quarter), its square root
taken so that all three grow like a length. The best sighting is the first key frame; up to two more follow,
best first, at least a quarter of the track away from each other and at least half as good as the best.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from operators.study import Frame

MINIMUM_OVERLAP = 0.3  # intersection over the smaller box
MAXIMUM_MISSED = 2  # looked-at frames in a row on which a lesion may be missed
MAXIMUM_KEY_FRAMES = 3
MINIMUM_SPREAD = 0.25  # of the track's length, between two key frames
MINIMUM_QUALITY = 0.5  # of the best sighting's
_WIDEN = 0.25

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sighting:
    """A lesion on one frame, without pixels. `box`: left, top, right, bottom in pixels of the region."""

    frame: Frame
    box: Box
    area_px: float
    score: float
    sharpness: float


Sightings = tuple[Sighting, ...]


def sight(frame: Frame, grey: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], score: float) -> Sighting:
    """What is kept of a lesion on a frame: `grey` and `mask` are (region.rows, region.columns)."""
    box = box_of(mask)
    return Sighting(frame, box, float(mask.sum()), score, _tenengrad(grey, box))


def box_of(mask: npt.NDArray[np.bool_]) -> Box:
    """The box around a mask, bool (rows, columns), that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _tenengrad(grey: npt.NDArray[np.uint8], box: Box) -> float:
    left, top, right, bottom = box
    across, down = _WIDEN * (right - left), _WIDEN * (bottom - top)
    part = grey[
        max(0, int(top - down)) : int(bottom + down) + 1, max(0, int(left - across)) : int(right + across) + 1
    ].astype(np.float32)
    return float((ndimage.sobel(part, 0) ** 2 + ndimage.sobel(part, 1) ** 2).mean())


def follow(sightings: Sequence[Sighting], step: int) -> tuple[Sightings, ...]:
    """Tracks of the sightings on one region of one cine, each in the order of frames.

    `step` is the distance of the frames that were looked at: over `MAXIMUM_MISSED` of them a track goes on.
    """
    tracks: list[list[Sighting]] = []
    ordered = sorted(sightings, key=_reading_order)
    for number, group in itertools.groupby(ordered, key=lambda one: one.frame.frame_number):
        here = list(group)
        reach = number - step * (MAXIMUM_MISSED + 1)
        alive = [track for track in tracks if track[-1].frame.frame_number >= reach]
        for track, one in _matched(alive, here):
            track.append(one)
            here.remove(one)
        tracks += [[one] for one in here]
    return tuple(tuple(track) for track in tracks)


def _reading_order(one: Sighting) -> tuple[int, Box]:
    return one.frame.frame_number, one.box


def _matched(
    tracks: Sequence[list[Sighting]], sightings: Sequence[Sighting]
) -> list[tuple[list[Sighting], Sighting]]:
    """Pairs of a track and its next sighting, the greatest overlap first, each used once."""
    pairs = sorted(
        (-share, i, j)
        for (i, track), (j, one) in itertools.product(enumerate(tracks), enumerate(sightings))
        if (share := overlap(track[-1].box, one.box)) >= MINIMUM_OVERLAP
    )
    next_of: dict[int, int] = {}
    for _, i, j in pairs:
        if i not in next_of and j not in next_of.values():
            next_of[i] = j
    return [(tracks[i], sightings[j]) for i, j in next_of.items()]


def overlap(one: Box, other: Box) -> float:
    """Area that two boxes share, in parts of the smaller one: 0..1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(width, 0.0) * max(height, 0.0) / smaller if smaller > 0 else 0.0


def qualities(track: Sightings) -> list[float]:
    """Quality of each sighting of a track, 0..1: score, size and sharpness against the track's greatest."""
    values = np.array([(one.score, one.area_px**0.5, one.sharpness**0.5) for one in track])
    return [float(value) for value in (values / np.maximum(values.max(axis=0), 1e-9)).prod(axis=1)]


def key_sightings(track: Sightings) -> Sightings:
    """The sightings that stand for a track, best first: at most `MAXIMUM_KEY_FRAMES`."""
    ranked = sorted(
        zip(qualities(track), track, strict=True), key=lambda pair: (-pair[0], _reading_order(pair[1]))
    )
    apart = max(MINIMUM_SPREAD * (track[-1].frame.frame_number - track[0].frame.frame_number), 1.0)
    chosen: list[Sighting] = []
    for quality, one in ranked:
        number = one.frame.frame_number
        far = all(abs(number - other.frame.frame_number) >= apart for other in chosen)
        if far and quality >= MINIMUM_QUALITY * ranked[0][0] and len(chosen) < MAXIMUM_KEY_FRAMES:
            chosen.append(one)
    return tuple(chosen)
