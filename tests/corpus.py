"""The corpus of ultrasound files, and whether pixels are those that an independent decoder gave."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.decode import decode_frames
from operators.read_header import read_header

VIDEO = {"synthetic-lymph-h264.dcm", "synthetic-lymph-hevc.dcm", "synthetic-lymph-mpeg2.dcm"}
JPEG_XL = "synthetic-from-dcm4che-jpegxl-3frame.dcm"
# What no decoder here reads, with a word of what is said of it.
UNSUPPORTED = {JPEG_XL: "JPEG XL"}
if importlib.util.find_spec("cv2") is None:
    UNSUPPORTED |= dict.fromkeys(VIDEO, "extra `video`")


def expectations(dicom_us: Path) -> dict[str, Any]:
    """What is known of each of the 66 files, by name."""
    known: dict[str, Any] = json.loads((dicom_us / "expected.json").read_text())
    assert len(known) == 66
    return known


def decoded(path: Path) -> npt.NDArray[np.uint8]:
    """All frames of a file."""
    return np.stack([pixels for _, pixels in decode_frames(path, read_header(path).dataset)])


def pixel_fault(frames: npt.NDArray[np.uint8], expected: dict[str, Any]) -> str | None:
    """How the frames differ from what is expected of them; None where they do not."""
    if list(frames.shape) != expected["decoded_shape"]:
        return f"shape {frames.shape}"
    if expected["compare_by"] == "sha256":
        same = hashlib.sha256(frames.tobytes()).hexdigest() == expected["decoded_sha256"]
        return None if same else "other pixels"
    bound = expected["tolerance"]
    assert expected["frame_stats"]
    for stats in expected["frame_stats"]:
        frame = frames[stats["frame"]]
        if (
            abs(frame.mean() - stats["mean"]) > bound["mean"]
            or abs(frame.std() - stats["std"]) > bound["std"]
        ):
            return f"frame {stats['frame']} has other statistics"
    return None
