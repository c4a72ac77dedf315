"""Which tracks show the same lesion, over the images of a study and over the halves of a dual screen.

Promises: lesions seen side by side on one region are never joined, nor views of different sides or clock
positions; the result depends on the tracks alone, not on their order. Joins the most alike first (average
linkage over the scores of `operators.likeness`, Sokal & Michener 1958, with those bans). What is neither
alike enough to join nor different enough to be two is left apart, and the pair is named.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.findings import Track
from operators.likeness import OTHER, SAME, appearance, likeness
from operators.site import Source

Tracks = tuple[Track, ...]
_BANNED = -np.inf


@dataclass(frozen=True)
class Joined:
    """Lesions, and which of them (indices into `lesions`, ascending) may be one and could not be told."""

    lesions: tuple[Tracks, ...]
    unclear: tuple[tuple[int, int], ...]


def join_views(tracks: Sequence[Track]) -> Joined:
    """Group tracks into lesions; tracks of a lesion in reading order, lesions by their first view."""
    ordered = sorted(tracks, key=reading_order)
    scores, banned, sided = _compared(ordered)
    groups = _linked(scores, banned | ~sided)
    unclear = tuple(
        (i, j)
        for (i, one), (j, other) in itertools.combinations(enumerate(groups), 2)
        if not banned[np.ix_(one, other)].any() and scores[np.ix_(one, other)].mean() >= OTHER
    )
    return Joined(tuple(tuple(ordered[place] for place in group) for group in groups), unclear)


def reading_order(track: Track) -> tuple[tuple[str, int, int, int], tuple[float, ...]]:
    """Sorts tracks by the place of their first view in the study."""
    first = min(track.views, key=lambda view: view.frame.key)
    return first.frame.key, tuple(float(value) for value in first.outline[0])


def _compared(
    tracks: Sequence[Track],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Of each pair the score, whether it can be no one lesion, and whether both name one side, or none."""
    count = len(tracks)
    looks = [appearance(best.clean, best.mask, best.frame.region) for best in (t.views[0] for t in tracks)]
    places = [_places(track) for track in tracks]
    sites = [(track.views[0].frame.laterality, track.views[0].frame.clock_hour) for track in tracks]
    # A side that only the screen of one image says keeps no lesion from its image without a label.
    coded = [
        side if track.views[0].frame.laterality_source is not Source.SCREEN else None
        for track, (side, _) in zip(tracks, sites, strict=True)
    ]
    scores = np.zeros((count, count))
    banned, sided = np.eye(count, dtype=bool), np.ones((count, count), bool)
    for i, j in itertools.combinations(range(count), 2):
        scores[i, j] = scores[j, i] = likeness(looks[i], looks[j])
        contradict = any(a and b and a != b for a, b in zip(sites[i], sites[j], strict=True))
        banned[i, j] = banned[j, i] = contradict or bool(places[i] & places[j])
        known = sites[i][0] is not None and sites[i][0] == sites[j][0]
        sided[i, j] = sided[j, i] = known or coded[i] == coded[j]
    return scores, banned, sided


def _places(track: Track) -> frozenset[tuple[str, int, int, int]]:
    """Every frame and region on which the lesion was seen."""
    frame = track.views[0].frame
    corner = (frame.region.min_x0, frame.region.min_y0)
    return frozenset((frame.instance.sop_instance_uid, number, *corner) for number in track.frame_numbers)


def _linked(scores: npt.NDArray[np.float64], banned: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Groups of indices by average linkage: the pair of groups with the highest mean score joins first."""
    groups = [[index] for index in range(len(scores))]
    means = np.where(banned, _BANNED, scores)
    while len(groups) > 1:
        i, j = sorted(int(place) for place in np.unravel_index(int(means.argmax()), means.shape))
        if means[i, j] < SAME:
            break
        one, other = len(groups[i]), len(groups[j])
        # A ban of either group holds for both together: the mean with minus infinity is minus infinity.
        means[i] = means[:, i] = (one * means[i] + other * means[j]) / (one + other)
        means[i, i] = _BANNED
        means = np.delete(np.delete(means, j, 0), j, 1)
        groups[i] = sorted(groups[i] + groups.pop(j))
    return groups
