"""A site's own DICOM studies as frames to adapt to.

Promises: the studies are read by what ships, in a process of its own; nothing is written beside them. What it
hands over (pixels with marks covered, outlines, patients as numbers; no name or identifier) lies in a
temporary folder that this user alone can read and is deleted, unless the process is killed in that moment.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.data.record import DataError
from models.generation.conditions import Condition
from models.generation.frames import FrameSet, Picture, frames_of


@dataclass(frozen=True)
class SiteFrames:
    """Frames, the number of the patient of each picture, and how many pictures there are."""

    frames: FrameSet
    patients: tuple[str, ...]


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
            raise DataError(
                f"the studies cannot be read: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}"
            )
        with np.load(handed) as arrays:
            patients = tuple(str(number) for number in arrays["patient"])
            lesion = Condition(lesion_class=lesion_class, device=device)
            pictures = [
                Picture(arrays[f"grey-{i}"], arrays[f"lesions-{i}"], lesion, device, arrays[f"marks-{i}"])
                for i in range(len(patients))
            ]
    if not pictures:
        raise DataError(
            "no picture of the studies has an outline: give studies that show lesions, or --outlines"
        )
    return SiteFrames(frames_of(pictures, seed), patients)
