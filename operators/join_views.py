"""Which tracks show the same lesion, over the images of a study.

Promises: lesions seen side by side on one image are never joined, nor views of different sides or clock
positions; the result depends on the tracks alone, not on their order. Joins by side and size, the best known
match first: a rule, not a proof, so every report shows each view's outline.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from operators.findings import Track

MAXIMUM_SIZE_RATIO = 2.0  # between two images: two cuts through one lesion differ, but not without bound

Tracks = tuple[Track, ...]


@dataclass(frozen=True)
class _Seen:
    """What joining looks at: tracks with their images, sides, stated clock hours, and sizes."""

    tracks: Tracks
    images: frozenset[str]
    sides: frozenset[str | None]
    hours: frozenset[int]
    millimetres: float | None
    share: float


def join_views(tracks: Sequence[Track]) -> tuple[Tracks, ...]:
    """Group tracks into lesions; tracks of a lesion in reading order, lesions by their first view."""
    seen = [_look((track,)) for track in sorted(tracks, key=reading_order)]
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
            lesions[first] = _look((*lesions[first].tracks, *lesions.pop(second).tracks))
            lesion_of = [first if kept == second else kept for kept in lesion_of]
    joined = [tuple(sorted(lesion.tracks, key=reading_order)) for lesion in lesions.values()]
    return tuple(sorted(joined, key=lambda lesion: reading_order(lesion[0])))


def reading_order(track: Track) -> tuple[tuple[str, int, int, int], tuple[float, ...]]:
    """Sorts tracks by the place of their first view in the study."""
    first = min(track.views, key=lambda view: view.frame.key)
    return first.frame.key, tuple(float(value) for value in first.outline[0])


def _look(tracks: Tracks) -> _Seen:
    views = [view for track in tracks for view in track.views]
    sizes = [view.measurement.long_axis_mm for view in views if view.measurement is not None]
    return _Seen(
        tracks=tracks,
        images=frozenset(view.frame.instance.sop_instance_uid for view in views),
        sides=frozenset(view.frame.laterality for view in views),
        hours=frozenset(view.frame.clock_hour for view in views if view.frame.clock_hour is not None),
        millimetres=float(np.median(sizes)) if len(sizes) == len(views) else None,
        share=float(np.median([np.sqrt(view.mask.mean()) for view in views])),
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
