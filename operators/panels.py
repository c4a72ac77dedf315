"""Screens of more than one picture: where the borders between the pictures run.

Promises: a region is cut only along an empty or an even line that runs through all of it, wide pictures
with speckle on either side; where no such line is, the region stays whole. What each part shows is judged by
others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.runtime.preprocess import Grey
from operators.regions import MINIMUM_SIDE_PIXELS, textured_blocks
from operators.study import Region

_DARK = 6  # grey level up to which a border is empty; the dark depth of a picture is lighter
_CLEAN_SHARE = 0.99  # of a border's pixels that must be
_GAP_PIXELS = 3  # narrower empty borders are shadows or chance
_LINE_DEVIATION = 3.0  # grey levels within a drawn line
_LINE_GREY = 48
_LINE_CONTRAST = 24  # grey levels by which it outshines both sides
_LINE_PIXELS = 8  # wider even bands are no line
_MINIMUM_SHARE = 0.2  # of the region's side that a picture fills
_TEXTURED_SHARE = 0.10  # of its blocks


def split(grey: Grey, region: Region) -> tuple[Region, ...]:
    """The pictures in a region, in reading order; the region itself where it is one picture.

    `grey` is uint8 (region.rows, region.columns). The parts keep the region's scale and `stated`.
    """
    parts: list[Region] = []
    for left, right in _cuts(grey, axis=1):
        strip = grey[:, left:right]
        for top, bottom in _cuts(strip, axis=0):
            part = replace(
                region,
                min_x0=region.min_x0 + left,
                max_x1=region.min_x0 + right - 1,
                min_y0=region.min_y0 + top,
                max_y1=region.min_y0 + bottom - 1,
            )
            parts.append(part)
    whole = len(parts) < 2 or any(min(part.rows, part.columns) < MINIMUM_SIDE_PIXELS for part in parts)
    return (region,) if whole else tuple(parts)


def _cuts(grey: Grey, axis: int) -> list[tuple[int, int]]:
    """Spans along `axis` (first, last excluded) between borders that run across all of the other axis."""
    across = grey if axis == 0 else grey.T
    size = len(across)
    border = _border_lines(across)
    spans = [(start, stop) for start, stop in _runs(~border) if stop - start >= _MINIMUM_SHARE * size]
    pictures = [span for span in spans if _is_picture(across[slice(*span)])]
    return pictures if len(pictures) > 1 and pictures == spans else [(0, size)]


def _border_lines(across: Grey) -> npt.NDArray[np.bool_]:
    """Which lines, the rows of `across`, belong to a border: empty and wide, or even and thin."""
    empty = (across <= _DARK).mean(axis=1) >= _CLEAN_SHARE
    mean = across.mean(axis=1)
    even = (across.std(axis=1) <= _LINE_DEVIATION) & (mean >= _LINE_GREY)
    border = np.zeros(len(across), bool)
    for start, stop in _runs(empty):
        border[start:stop] = stop - start >= _GAP_PIXELS
    for start, stop in _runs(even):
        beside = [mean[line] for line in (start - 2, stop + 1) if 0 <= line < len(mean)]
        stands_out = all(mean[start:stop].mean() - one >= _LINE_CONTRAST for one in beside)
        border[start:stop] |= stop - start <= _LINE_PIXELS and stands_out
    return border


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end (excluded) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _is_picture(part: Grey) -> bool:
    blocks = textured_blocks(np.ascontiguousarray(part))
    return bool(blocks.size) and float(blocks.mean()) >= _TEXTURED_SHARE
