"""Which views show the same lesion: over the frames of a cine, and over the images of a study.

Promises: lesions seen side by side on one frame are never joined; views of different sides are never
joined; the result depends on the views alone, not on their order. Joins over images by side and size, the
best known match first: a rule, not a proof, so every report shows each view's outline.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from operators.findings import LesionView

MINIMUM_OVERLAP = 0.3  # intersection over the smaller box, for neighbouring frames of a cine
MAXIMUM_SIZE_RATIO = 2.0  # between two images: two cuts through one lesion differ, but not without bound

Track = tuple[LesionView, ...]


def join_views(views: Sequence[LesionView]) -> tuple[Track, ...]:
    """Group views into lesions; views of a lesion in reading order, lesions by their first view."""
    ordered = sorted(views, key=lambda view: (view.frame.key, tuple(view.outline[0])))
    by_instance = itertools.groupby(ordered, key=lambda view: view.frame.instance.sop_instance_uid)
    tracks = [track for _, group in by_instance for track in _follow(list(group))]
    lesions = [list(track) for track in tracks]
    while (pair := _best_pair(lesions)) is not None:
        first, second = pair
        lesions[first] += lesions.pop(second)
    joined = [tuple(sorted(lesion, key=lambda view: view.frame.key)) for lesion in lesions]
    return tuple(sorted(joined, key=lambda lesion: (lesion[0].frame.key, tuple(lesion[0].outline[0]))))


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


def _best_pair(lesions: Sequence[Sequence[LesionView]]) -> tuple[int, int] | None:
    """The two lesions of one side, never seen together, that are most alike in size; None if none fit."""
    candidates = []
    for (i, one), (j, other) in itertools.combinations(enumerate(lesions), 2):
        images = [{view.frame.instance.sop_instance_uid for view in lesion} for lesion in (one, other)]
        sides = {view.frame.laterality for view in (*one, *other)}
        ratio = _size_ratio(one, other)
        if not images[0] & images[1] and len(sides) == 1 and ratio <= MAXIMUM_SIZE_RATIO:
            candidates.append((ratio, i, j))
    if not candidates:
        return None
    _, i, j = min(candidates)
    return i, j


def _overlap(one: LesionView, other: LesionView) -> float:
    low = np.maximum(one.outline.min(0), other.outline.min(0))
    high = np.minimum(one.outline.max(0), other.outline.max(0))
    smaller = min(float(np.prod(np.ptp(view.outline, axis=0))) for view in (one, other))
    return float(np.prod(np.clip(high - low, 0, None))) / smaller if smaller > 0 else 0.0


def _size_ratio(one: Sequence[LesionView], other: Sequence[LesionView]) -> float:
    """Ratio of sizes, at least 1: of millimetres where both are calibrated, else of shares of the region."""
    calibrated = all(view.measurement is not None for view in (*one, *other))
    first, second = (
        float(np.median([_size(view, calibrated) for view in lesion])) for lesion in (one, other)
    )
    return max(first, second) / max(min(first, second), 1e-6)


def _size(view: LesionView, calibrated: bool) -> float:
    if calibrated and view.measurement is not None:
        return view.measurement.long_axis_mm
    return float(np.sqrt(view.mask.mean()))
