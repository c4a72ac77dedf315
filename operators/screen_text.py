"""Read side and clock position off the text on a screen, by Debian's tesseract where it is installed.

Promises: what is read stays in this process and is reduced at once to a side and an hour: no word is logged,
stored or passed on. Text is read within a time limit; a reader that is missing, slow or at a loss says that
nothing is known. Two readings at different sizes must agree, since a lost digit would make 1 o'clock of 11.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from models.runtime.marks import MarkModel
from operators.site import Site
from operators.site_text import read_site

LANGUAGES = ("eng", "por", "deu")  # one is used, the first there: they read capital letters alike
TIME_LIMIT_SECONDS = 10.0
_PROGRAM = "tesseract"
_LETTERS = "tessedit_char_whitelist=ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:'.,/-% "
_HEIGHTS = (40, 28, 34)  # of a line, pixels, as the program reads best
_MINIMUM_HEIGHT, _MINIMUM_COLUMNS = 7, 10  # of a block that may be words
_MAXIMUM_HEIGHT = 60
_EDGE_ROWS, _EDGE_COLUMNS = 30, 6  # taller and narrower than any letter

_SHARED_ROWS, _BLANK = 0.6, 1.2  # of the shorter height, of the taller height
_GROWN = 1.6  # of the height of a line, by a piece that joins it

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice]
_Stated = TypeVar("_Stated", str, int)


@dataclass(frozen=True)
class ScreenReader:
    """Reads screens with one language of the program; finds the words with `marks`."""

    marks: MarkModel
    language: str

    def read(self, grey: Grey) -> Site:
        """What the text of a whole picture, uint8 (rows, columns), says of side and clock position."""
        lines = text_lines(grey, self.marks)
        if not lines:
            return Site()
        readings: list[Site] = []
        for height in _HEIGHTS:
            readings.append(read_site(self._words(lines, height)))
            if len(readings) > 1 and readings[0] == readings[1] and _settled(readings[0]):
                break
        return Site(
            _twice([one.laterality for one in readings]), _twice([one.clock_hour for one in readings])
        )

    def _words(self, lines: Sequence[Grey], height: int) -> list[str]:
        """The lines as text; nothing where the program fails or takes too long."""
        stored = BytesIO()
        Image.fromarray(_sheet(lines, height)).save(stored, "PNG")
        try:
            answer = subprocess.run(
                [_PROGRAM, "-", "-", "--psm", "6", "-l", self.language, "-c", _LETTERS],
                input=stored.getvalue(),
                capture_output=True,
                timeout=TIME_LIMIT_SECONDS,
                check=True,
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            )
        except (OSError, subprocess.SubprocessError):
            return []
        return [line for line in answer.stdout.decode("utf-8", "replace").splitlines() if line.strip()]


def _settled(site: Site) -> bool:
    """Whether a third reading could add nothing: all is known, or nothing is."""
    return (site.laterality is None) == (site.clock_hour is None)


def _twice(said: Sequence[_Stated | None]) -> _Stated | None:
    """What two readings say and none contradicts."""
    known = [one for one in said if one is not None]
    return known[0] if len(known) > 1 and len(set(known)) == 1 else None


def find_reader(marks: MarkModel) -> ScreenReader | None:
    """A reader, None where the program or its languages are not installed."""
    if shutil.which(_PROGRAM) is None:
        return None
    try:
        listed = subprocess.run(
            [_PROGRAM, "--list-langs"], capture_output=True, timeout=TIME_LIMIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    there = set(listed.stdout.decode("utf-8", "replace").split())
    language = next((one for one in LANGUAGES if one in there), None)
    return ScreenReader(marks, language) if language else None


def text_lines(grey: Grey, marks: MarkModel) -> list[Grey]:
    """Lines of words on a picture, top to bottom, each dark on white, uint8, without the tissue around."""
    strokes = _without_edges(marks.find(grey).mask)
    labels, _ = ndimage.label(ndimage.binary_closing(strokes, np.ones((1, 7))) | strokes, np.ones((3, 3)))
    near = ndimage.binary_dilation(strokes, np.ones((3, 3)))
    lines = []
    for box in _lines_of(ndimage.find_objects(labels)):
        height, width = (axis.stop - axis.start for axis in box)
        if _MINIMUM_HEIGHT <= height <= _MAXIMUM_HEIGHT and width >= _MINIMUM_COLUMNS:
            lines.append(_black_on_white(grey[box], near[box]))
    return lines


def _black_on_white(grey: Grey, near: Mask) -> Grey:
    """A line with its contrast stretched: ink 0, paper and what is not `near` strokes 255."""
    dark = 255.0 - grey
    ink, paper = np.percentile(dark[near], (3, 75))
    stretched = np.clip((dark - ink) / max(paper - ink, 1.0) * 255, 0, 255)
    return np.where(near, stretched, 255).astype(np.uint8)


def _without_edges(strokes: Mask) -> Mask:
    """Strokes without those that no letter has: the edge of a region, which may run along a word."""
    labels, _ = ndimage.label(strokes, np.ones((3, 3)))
    kept = strokes.copy()
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        height, width = (axis.stop - axis.start for axis in box)
        if height > _MAXIMUM_HEIGHT or (height > _EDGE_ROWS and width < _EDGE_COLUMNS):
            kept[box][labels[box] == index] = False
    return kept


def _lines_of(pieces: Sequence[Box]) -> list[Box]:
    """Boxes of pieces joined to lines: beside each other, of like height, no further apart than a blank."""
    lines: list[Box] = []
    for piece in sorted(pieces, key=lambda box: box[1].start):
        for place, line in enumerate(lines):
            if _of_one_line(line, piece):
                rows, columns = zip(line, piece, strict=True)
                lines[place] = (_around(rows), _around(columns))
                break
        else:
            lines.append(piece)
    return sorted(lines, key=lambda box: (box[0].start, box[1].start))


def _of_one_line(line: Box, piece: Box) -> bool:
    tall, short = sorted((_height(line), _height(piece)), reverse=True)
    grown = max(line[0].stop, piece[0].stop) - min(line[0].start, piece[0].start)
    shared = min(line[0].stop, piece[0].stop) - max(line[0].start, piece[0].start)
    return (
        grown <= _GROWN * max(_height(line), 12)
        and shared >= _SHARED_ROWS * short
        and piece[1].start - line[1].stop <= _BLANK * tall
    )


def _height(box: Box) -> int:
    return int(box[0].stop - box[0].start)


def _around(slices: Sequence[slice]) -> slice:
    return slice(min(one.start for one in slices), max(one.stop for one in slices))


def _sheet(lines: Sequence[Grey], height: int) -> Grey:
    """All lines below each other on one white page, each brought to one height."""
    rows = []
    for line in lines:
        scale = height / line.shape[0]
        size = (max(1, round(line.shape[1] * scale)), height)
        rows.append(np.asarray(Image.fromarray(line).resize(size, Image.Resampling.BICUBIC)))
    width = max(row.shape[1] for row in rows) + 2 * height
    page = np.full((sum(row.shape[0] + height for row in rows) + height, width), 255, np.uint8)
    y = height
    for row in rows:
        page[y : y + row.shape[0], height : height + row.shape[1]] = row
        y += row.shape[0] + height
    return page
