"""Read side and clock position off the text on a screen, by Debian's tesseract where it is installed.

Promises: what is read stays in this process and is reduced at once to a side and an hour: no word is logged,
stored or passed on. A reading has a time limit, and so have all of a study; a reader that is missing, slow or
at a loss says that nothing is known, and what was not read is counted. Two readings at different sizes must
agree, since a lost digit would make 1 o'clock of 11. The program dies with the process that started it.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from models.runtime.marks import MarkModel
from models.runtime.preprocess import Grey
from operators.site import Site
from operators.site_text import read_site

LANGUAGES = ("eng", "por", "deu")  # one is used, the first there: they read capital letters alike
TIME_LIMIT_SECONDS = 10.0  # of one reading
STUDY_SECONDS = 60.0  # of all readings of a study
MAXIMUM_LINES = 60  # of a screen that is read: more is no label
_PROGRAM = "tesseract"
# util-linux: the program is killed when this process is, be it amid a reading that hangs.
_GUARD, _GUARDED = "setpriv", ("--pdeathsig", "KILL", "--")
_VERSION = re.compile(r"^tesseract v?(\S+)", re.MULTILINE)
_LETTERS = "tessedit_char_whitelist=ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:'.,/-% "
_HEIGHTS = (40, 28, 34)  # of a line, pixels, as the program reads best
_MINIMUM_HEIGHT, _MINIMUM_COLUMNS = 7, 10  # of a block that may be words
_MAXIMUM_HEIGHT = 60
_EDGE_ROWS, _EDGE_COLUMNS = 30, 6  # taller and narrower than any letter

_SHARED_ROWS, _BLANK = 0.6, 1.2  # of the shorter height, of the taller height
_GROWN = 1.6  # of the height of a line, by a piece that joins it

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice]
_Stated = TypeVar("_Stated", str, int)


@dataclass(frozen=True)
class ScreenReader:
    """Reads screens with one language of the program; finds the words with `marks`.

    `command` is how the program is started, `identity` names it, its version and language in a report;
    `study_seconds` is what the readings of one study may take together.
    """

    marks: MarkModel
    command: tuple[str, ...]
    language: str
    identity: str
    study_seconds: float = STUDY_SECONDS

    def read(self, grey: Grey, seconds: float = STUDY_SECONDS) -> Site | None:
        """What the text of a whole picture, uint8 (rows, columns), says of side and clock position.

        None where it was not read: within `seconds`, by a failure of the program, or for too many lines.
        """
        deadline = time.monotonic() + seconds
        lines = text_lines(grey, self.marks)
        if not lines:
            return Site()
        if len(lines) > MAXIMUM_LINES:
            return None
        readings: list[Site] = []
        for height in _HEIGHTS:
            words = self._words(lines, height, deadline - time.monotonic())
            if words is None:
                return None
            readings.append(read_site(words))
            if len(readings) > 1 and readings[0] == readings[1] and _settled(readings[0]):
                break
        return Site(
            _twice([one.laterality for one in readings]), _twice([one.clock_hour for one in readings])
        )

    def _words(self, lines: Sequence[Grey], height: int, seconds: float) -> list[str] | None:
        """The lines as text; None where the program fails or takes too long."""
        stored = BytesIO()
        Image.fromarray(_sheet(lines, height)).save(stored, "PNG")
        said = _answer(
            [*self.command, "-", "-", "--psm", "6", "-l", self.language, "-c", _LETTERS],
            min(seconds, TIME_LIMIT_SECONDS),
            stored.getvalue(),
        )
        return None if said is None else [line for line in said.splitlines() if line.strip()]


class StudyScreens:
    """The screens of one study, read until its time is spent; counts those that were not read."""

    def __init__(self, reader: ScreenReader | None) -> None:
        self._reader = reader
        self._seconds_left = reader.study_seconds if reader else 0.0
        self._asked = self._unread = 0

    def read(self, grey: Grey) -> Site:
        """What a screen says, uint8 (rows, columns); an empty site where it is not read."""
        if self._reader is None:
            return Site()
        started = time.monotonic()
        site = self._reader.read(grey, self._seconds_left) if self._seconds_left > 0 else None
        self._seconds_left -= time.monotonic() - started
        self._asked += 1
        self._unread += site is None
        return site or Site()

    @property
    def identity(self) -> str | None:
        """Who read; None where nothing was to be read."""
        return self._reader.identity if self._reader and self._asked else None

    @property
    def notes(self) -> list[str]:
        """A sentence on what was not read, if anything."""
        if not self._unread:
            return []
        return [
            "Side and clock position were not read off the screen of "
            f"{self._unread} of {self._asked} images: the reader of screen text failed, took too long, or "
            "met too many lines."
        ]


def find_reader(marks: MarkModel, study_seconds: float = STUDY_SECONDS) -> ScreenReader | None:
    """A reader, None where the program, one of its languages or `setpriv` is not installed."""
    path, guard = shutil.which(_PROGRAM), shutil.which(_GUARD)
    if path is None or guard is None:
        return None
    command = (guard, *_GUARDED, path)
    try:
        language, version = _installed(command, Path(path).stat().st_mtime_ns)
    except (OSError, LookupError):
        return None
    return ScreenReader(marks, command, language, f"{_PROGRAM} {version} ({language})", study_seconds)


@functools.lru_cache(maxsize=4)
def _installed(command: tuple[str, ...], _changed_ns: int) -> tuple[str, str]:
    """Language and version of the program, asked once a process for each state of its file.

    Raises
    ------
    LookupError
        It does not answer, or has none of the languages; it will be asked again.
    """
    there = set((_answer([*command, "--list-langs"], TIME_LIMIT_SECONDS) or "").split())
    language = next((one for one in LANGUAGES if one in there), None)
    if language is None:
        raise LookupError("no language")
    version = _VERSION.search(_answer([*command, "--version"], TIME_LIMIT_SECONDS) or "")
    return language, version[1] if version else "of unknown version"


def _answer(command: Sequence[str], seconds: float, given: bytes = b"") -> str | None:
    """What a command prints on stdout; None where it fails or takes longer than `seconds`."""
    if seconds <= 0:
        return None
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            timeout=seconds,
            check=True,
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def _settled(site: Site) -> bool:
    """Whether a third reading could add nothing: all is known, or nothing is."""
    return (site.laterality is None) == (site.clock_hour is None)


def _twice(said: Sequence[_Stated | None]) -> _Stated | None:
    """What two readings say and none contradicts."""
    known = [one for one in said if one is not None]
    return known[0] if len(known) > 1 and len(set(known)) == 1 else None


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
