"""Which views show the same lesion: over the frames of a cine, and over the images of a study.

Promises: lesions seen side by side on one image are never joined, nor views of different sides or clock
positions; the result depends on the views alone, not on their order. Joins over images by side and size, the
best known match first: a rule, not a proof, so every report shows each view's outline.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from operators.findings import LesionView

MINIMUM_OVERLAP = 0.3  # intersection over the smaller box, for neighbouring frames of a cine
MAXIMUM_SIZE_RATIO = 2.0  # between two images: two cuts through one lesion differ, but not without bound

Track = tuple[LesionView, ...]


@dataclass(frozen=True)
class _Seen:
    """What joining looks at: a track with its images, sides, stated clock hours, and sizes."""

    track: Track
    images: frozenset[str]
    sides: frozenset[str | None]
    hours: frozenset[int]
    millimetres: float | None
    share: float


def join_views(views: Sequence[LesionView]) -> tuple[Track, ...]:
    """Group views into lesions; views of a lesion in reading order, lesions by their first view."""
    ordered = sorted(views, key=_reading_order)
    by_instance = itertools.groupby(ordered, key=lambda view: view.frame.instance.sop_instance_uid)
    seen = [_look(track) for _, group in by_instance for track in _follow(list(group))]
    pairs = sorted(
        (ratio, i, j)
        for (i, one), (j, other) in itertools.combinations(enumerate(seen), 2)
        if _may_join(one, other) and (ratio := _size_ratio(one, other)) <= MAXIMUM_SIZE_RATIO
    )
    lesion_of = list(range(len(seen)))
    lesions = dict(enumerate(seen))
    for _, i, j in pairs:  # the most alike first
        first, second = lesion_of[i], lesion_of[j]
        if first != second and _may_join(lesions[first], lesions[second]):
            lesions[first] = _look((*lesions[first].track, *lesions.pop(second).track))
            lesion_of = [first if kept == second else kept for kept in lesion_of]
    joined = [tuple(sorted(lesion.track, key=_reading_order)) for lesion in lesions.values()]
    return tuple(sorted(joined, key=lambda lesion: _reading_order(lesion[0])))


def _reading_order(view: LesionView) -> tuple[tuple[str, int, int, int], tuple[float, ...]]:
    return view.frame.key, tuple(float(value) for value in view.outline[0])


def _look(track: Track) -> _Seen:
    sizes = [view.measurement.long_axis_mm for view in track if view.measurement is not None]
    return _Seen(
        track=track,
        images=frozenset(view.frame.instance.sop_instance_uid for view in track),
        sides=frozenset(view.frame.laterality for view in track),
        hours=frozenset(view.frame.clock_hour for view in track if view.frame.clock_hour is not None),
        millimetres=float(np.median(sizes)) if len(sizes) == len(track) else None,
        share=float(np.median([np.sqrt(view.mask.mean()) for view in track])),
    )


def _may_join(one: _Seen, other: _Seen) -> bool:
    """Never seen on one image, of one side, and of no two clock positions."""
    return (
        not one.images & other.images
        and len(one.sides | other.sides) == 1
        and len(one.hours | other.hours) <= 1
    )


def _size_ratio(one: _Seen, other: _Seen) -> float:
    """Ratio of sizes, at least 1: of millimetres where both are calibrated, else of shares of the region."""
    if one.millimetres is not None and other.millimetres is not None:
        first, second = one.millimetres, other.millimetres
    else:
        first, second = one.share, other.share
    return max(first, second) / max(min(first, second), 1e-6)


def _follow(views: Sequence[LesionView]) -> list[Track]:
    """Tracks of lesions through the frames of one instance, by the overlap of their boxes."""
    tracks: list[list[LesionView]] = []
    for view in views:
        open_tracks = [
            track
            for track in tracks
            if track[-1].frame.key != view.frame.key and track[-1].frame.region == view.frame.region
        ]
        best = max(open_tracks, key=lambda track: _overlap(track[-1], view), default=None)
        if best is not None and _overlap(best[-1], view) >= MINIMUM_OVERLAP:
            best.append(view)
        else:
            tracks.append([view])
    return [tuple(track) for track in tracks]


def _overlap(one: LesionView, other: LesionView) -> float:
    low = np.maximum(one.outline.min(0), other.outline.min(0))
    high = np.minimum(one.outline.max(0), other.outline.max(0))
    smaller = min(float(np.prod(np.ptp(view.outline, axis=0))) for view in (one, other))
    return float(np.prod(np.clip(high - low, 0, None))) / smaller if smaller > 0 else 0.0
