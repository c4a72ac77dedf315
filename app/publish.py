"""The results of a one-shot run as one flat folder, and how it appears.

Promises: flat; a study that could not be analysed is named in it; the files appear together or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import Failure, OutputError, StudiesFailedError
from app.hosts import METADATA, RESULT


@dataclass(frozen=True)
class FailedStudy:
    """A study of the input without a result."""

    study_instance_uid: str
    failure: Failure


def check_target(target: Path) -> None:
    """Refuse before the work what would fail after it.

    Raises
    ------
    OutputError
        The folder holds something, or cannot be written.
    """
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OutputError(f"the output folder {target} is not an empty folder: give a new or empty one")
    except OSError as error:
        raise unwritable(target, error) from None
    place = target if target.exists() else target.parent
    if not place.is_dir():
        raise OutputError(f"the folder {place} does not exist: make it, or give another output folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{place} cannot be written by user id {os.getuid()}: give a folder that can")


def unwritable(target: Path, error: OSError) -> OutputError:
    """What is said of an output folder that the system does not let us write."""
    return OutputError(
        f"the output folder {target} cannot be written ({error.strerror}): check space and permissions"
    )


def partly_failed(failed: Sequence[FailedStudy], count: int) -> StudiesFailedError:
    """The error of a run in which `failed` of `count` studies have no result."""
    codes = ", ".join(dict.fromkeys(one.failure.code for one in failed))
    kept = "the other results are written" if len(failed) < count else "nothing was written"
    return StudiesFailedError(
        f"{len(failed)} of {count} studies could not be analysed ({codes}); {kept}. "
        + " ".join(dict.fromkeys(one.failure.message for one in failed))
    )


def merge(results: Sequence[Path], failed: Sequence[FailedStudy], merged: Path) -> None:
    """One flat folder from the results of all studies; that of a single study stays as it is."""
    if len(results) == 1 and not failed:
        results[0].rename(merged)
        return
    merged.mkdir()
    facts: dict[str, list[Mapping[str, Any]]] = {"studies": [], "objects": []}
    for number, result in enumerate(results, start=1):
        of_study = json.loads((result / RESULT).read_text(encoding="utf-8"))
        for one in of_study["objects"]:
            one["file"] = f"study{number:03d}-{one['file']}"
        facts["studies"].append(of_study)
        facts["objects"] += of_study["objects"]
        for path in result.iterdir():
            if path.name != RESULT:
                path.rename(merged / f"study{number:03d}-{path.name}")
    facts["failed"] = [
        {
            "study_instance_uid": one.study_instance_uid,
            "code": one.failure.code,
            "message": one.failure.message,
        }
        for one in failed
    ]
    (merged / RESULT).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    metadata = {
        "status": "several-studies",
        "studies": len(results) + len(failed),
        "analysed": len(results),
        "failed": len(failed),
        "lesions": sum(len(one["lesions"]) for one in facts["studies"]),
        "disclaimer": facts["studies"][0]["disclaimer"],
    }
    if failed:
        error = partly_failed(failed, len(results) + len(failed))
        metadata |= {"exception": error.code, "exception_message": str(error)}
    (merged / METADATA).write_text(json.dumps(metadata) + "\n", encoding="utf-8")


def publish(source: Path, target: Path) -> None:
    """Move the files of `source` to `target` so that they appear together.

    A target that does not exist appears by one rename. One that exists (a host's mount) gets the files
    from a hidden folder inside it, `result.json` last: where that is, all is.
    """
    inside = target.exists()
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target if inside else target.parent))
    moved: list[Path] = []
    try:
        for path in sorted(source.iterdir()):
            copy = partial / path.name
            shutil.copyfile(path, copy)
            with copy.open("rb") as stream:
                os.fsync(stream.fileno())
        if not inside:
            partial.chmod(0o755)
            partial.rename(target)
            return
        for path in sorted(partial.iterdir(), key=lambda path: (path.name == RESULT, path.name)):
            moved.append(target / path.name)
            path.rename(moved[-1])
        partial.rmdir()
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        raise
