"""What busmap says of the golden set, in the form that is kept beside it.

`python -m tests.golden_results` shows what differs from what is kept; `--write` keeps what is found, for a
change that is meant to change results (other weights, another calibration): read the difference first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

ROOT: Final = Path(__file__).parents[1]
GOLDEN: Final = ROOT / "tests" / "golden"
EXPECTED: Final = GOLDEN.with_suffix(".expected.json")
PROBABILITY: Final = 1e-3  # difference that another processor or engine may make
MILLIMETRE: Final = 0.3  # likewise: a pixel of the generated pictures
DICE: Final = 0.98  # of an outline and the one kept


def analyse(studies: Path, out: Path) -> list[dict[str, Any]]:
    """Results of a folder of studies, one an object of `result.json`, by the program as a host starts it."""
    command = [sys.executable, "-m", "app", "-i", studies, "-o", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads((out / "result.json").read_text(encoding="utf-8"))["studies"]
    return results


def kept(results: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of results, by Study Instance UID."""
    return {
        result["study_instance_uid"]: {
            "status": result["status"],
            "probability": result["probability"],
            "frames_analysed": result["frames_analysed"],
            "set_aside": [one["reason"] for one in result["set_aside"]],
            "lesions": [_lesion(lesion) for lesion in result["lesions"]],
        }
        for result in results
    }


def _lesion(lesion: Mapping[str, Any]) -> dict[str, Any]:
    names = ("probability", "category", "long_axis_mm", "short_axis_mm", "laterality", "clock_hour")
    seen = ("sop_instance_uid", "frame_number", "outline")
    views = [{name: one[name] for name in seen} for one in lesion["views"]]
    return {name: lesion[name] for name in names} | {"views": views}


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], path: str = "") -> list[str]:
    """Where results differ by more than another processor may make; a line each, empty where none does."""
    if isinstance(expected, Mapping):
        if set(found) != set(expected):
            return [f"{path}: has {sorted(set(found) ^ set(expected))} in one of both only"]
        return [line for key in expected for line in differences(found[key], expected[key], f"{path}/{key}")]
    if path.endswith("/outline"):
        value = overlap(found, expected)
        return [f"{path}: Dice {value:.3f} to the outline kept"] if value < DICE else []
    if isinstance(expected, list):
        if len(found) != len(expected):
            return [f"{path}: {len(found)} instead of {len(expected)}"]
        pairs = enumerate(zip(found, expected, strict=True))
        return [line for i, (one, other) in pairs for line in differences(one, other, f"{path}/{i}")]
    tolerance = MILLIMETRE if path.endswith("_mm") else PROBABILITY
    if isinstance(expected, float) and isinstance(found, float) and abs(found - expected) <= tolerance:
        return []
    return [] if found == expected else [f"{path}: {found} instead of {expected}"]


def overlap(one: Any, other: Any) -> float:
    """Dice of two outlines, lists of (column, row) in pixels."""
    columns, rows = (int(most) + 2 for most in np.concatenate([one, other]).max(0))
    areas = []
    for outline in (one, other):
        canvas = Image.new("1", (columns, rows))
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in outline], fill=1)
        areas.append(np.asarray(canvas))
    return float(2 * (areas[0] & areas[1]).sum() / (areas[0].sum() + areas[1].sum()))


def main() -> None:
    """Show differences, or keep what is found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep what is found")
    write = parser.parse_args().write
    with TemporaryDirectory(prefix="busmap-golden-") as scratch:
        found = kept(analyse(GOLDEN, Path(scratch) / "out"))
    if EXPECTED.exists():
        expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
        print("\n".join(differences(found, expected)) or "no difference")
    if write:
        EXPECTED.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
