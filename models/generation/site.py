"""A site's own DICOM studies as frames to adapt to.

Promises: the studies are read by what ships, in a process of its own; nothing is written beside them. What it
hands over (pixels with marks covered, outlines, patients as numbers; no name or identifier) lies in a
temporary folder that this user alone can read and is deleted, unless the process is killed in that moment.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from models.data.record import DataError
from models.generation.conditions import Condition
from models.generation.frames import FrameSet, Picture, frames_of

_FOR_A_READER: Final = re.compile(r"busmap: [a-z][a-z-]*: \S")


@dataclass(frozen=True)
class SiteFrames:
    """Frames, the number of the patient of each picture, and what was set aside: how many by reason."""

    frames: FrameSet
    patients: tuple[str, ...]
    set_aside: Mapping[str, int]


def site_frames(
    studies: Path, outlines: Path | None, device: str, lesion_class: str, seed: int
) -> SiteFrames:
    """Frames of all pictures with a known outline in a folder of studies.

    `device` and `lesion_class`: what all pictures are said to be of; "unknown" where nothing is said.

    Raises
    ------
    DataError
        The studies cannot be read, or no picture has an outline.
    """
    options = ["--outlines", str(outlines)] if outlines else []
    with tempfile.TemporaryDirectory(prefix="busmap-adapt-") as private:  # mode 0700
        handed = Path(private) / "frames.npz"
        done = subprocess.run(
            [sys.executable, "-m", "app.frames", str(studies), str(handed), *options],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DataError(f"the studies cannot be read: {_reason(done.stderr)}")
        with np.load(handed) as arrays:
            patients = tuple(str(number) for number in arrays["patient"])
            lesion = Condition(lesion_class=lesion_class, device=device)
            pictures = [
                Picture(arrays[f"grey-{i}"], arrays[f"lesions-{i}"], lesion, device, arrays[f"marks-{i}"])
                for i in range(len(patients))
            ]
            counts = zip(arrays["reasons"].tolist(), arrays["reason_counts"].tolist(), strict=True)
            set_aside = dict(sorted(counts))
    if not pictures:
        aside = f" (set aside: {counted(set_aside)})" if set_aside else ""
        raise DataError(
            f"no picture of the studies has an outline{aside}: give studies that show lesions, or --outlines"
        )
    return SiteFrames(frames_of(pictures, seed), patients, set_aside)


def counted(set_aside: Mapping[str, int]) -> str:
    """How many files and frames were set aside, by reason."""
    return ", ".join(f"{count} {reason}" for reason, count in set_aside.items())


def _reason(stderr: str) -> str:
    """The last line that was written for a reader; any other might hold a value of a header."""
    lines = [line for line in stderr.splitlines() if _FOR_A_READER.match(line)]
    return lines[-1] if lines else "the process that reads them failed and gave no reason that can be shown"
