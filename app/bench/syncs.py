"""What a receiver brings to the disk before it answers: its fsync calls an image, counted by strace."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

from app.bench.receivers import Receiver, running
from app.bench.receiving import images_a_second, make_images

_IMAGES = 40
_CALL = re.compile(r"\b(fsync|fdatasync|syncfs|sync|msync|sync_file_range)\((?:\d+<([^>]*)>)?")


def traced(name: str, folder: Path) -> str:
    """Receive a few images under strace; what was synced, in words."""
    strace = shutil.which("strace")
    if strace is None:
        return "not measured: strace is missing (make peers installs it)"
    trace = folder / "trace"
    calls = "trace=fsync,fdatasync,syncfs,sync,msync,sync_file_range"
    with running(name, folder / name, [strace, "-f", "-y", "-qq", "-e", calls, "-o", str(trace)]) as receiver:
        before = trace.read_text()
        images_a_second(receiver, make_images(folder / "images", _IMAGES, 1))
        text = trace.read_text()[len(before) :]
    return say_syncs(count_syncs(text, receiver), _IMAGES)


def count_syncs(trace: str, receiver: Receiver) -> Counter[str]:
    """Sync calls of a trace by what they were for."""
    return Counter(_kind(match[2] or "", receiver.folder) for match in _CALL.finditer(trace))


def say_syncs(counted: Counter[str], images: int) -> str:
    """Calls an image, by kind."""
    if not counted:
        return "no sync call: what it answered may still be in memory alone"
    return ", ".join(f"{kind} {count / images:.2f}" for kind, count in sorted(counted.items())) + " an image"


def _kind(path: str, folder: Path) -> str:
    name = Path(path).name
    if "sqlite" in name or name.startswith("index"):
        return "database"
    return "folder" if Path(path).is_dir() or len(name) == 2 else "image file"
