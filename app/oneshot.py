"""One folder in, one folder out: what a MAP host calls, and `busmap run`.

Promises: the input is only read; nothing is written but the output and the temporary folder; the output
appears whole or not at all; any user id will do; a failure is one line that names cause and remedy, and a
true exit status. "Nothing usable" is a result (status 0), not a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from app.errors import BusmapError, OutputError, SettingsError
from app.settings import load_settings
from app.stopping import Stoppable
from models.runtime.engine import ModelError
from operators.study import InputError, NoStudyError

# The first one set counts; a flag counts above all. Hosts: MONAI Deploy, mercure, older MONAI Deploy.
INPUT_VARIABLES = ("HOLOSCAN_INPUT_PATH", "MERCURE_IN_DIR", "MONAI_INPUTPATH")
OUTPUT_VARIABLES = ("HOLOSCAN_OUTPUT_PATH", "MERCURE_OUT_DIR", "MONAI_OUTPUTPATH")
_RESULT = "result.json"
_INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h


def main(given_input: Path | None, given_output: Path | None, config: Path | None = None) -> int:
    """Run once and return the exit status; every failure is said on stderr in one line."""
    try:
        with Stoppable() as stoppable:
            _run(
                _folder(given_input, INPUT_VARIABLES, "input", "-i"),
                _folder(given_output, OUTPUT_VARIABLES, "output", "-o"),
                config,
                stoppable,
            )
    except (BusmapError, InputError, ModelError) as error:
        print(f"busmap: {error.code}: {error}", file=sys.stderr)
        return error.exit_status
    except Exception as error:  # the user gets a line, not a traceback
        where = traceback.extract_tb(error.__traceback__)[-1]
        print(
            f"busmap: internal-error: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}. "
            "Nothing was written; please report it with this line.",
            file=sys.stderr,
        )
        return _INTERNAL_ERROR
    return 0


def _folder(given: Path | None, variables: Sequence[str], name: str, flag: str) -> Path:
    if given is not None:
        return given
    for variable in variables:
        if os.environ.get(variable):
            return Path(os.environ[variable])
    raise SettingsError(f"no {name} folder: give {flag} FOLDER or set {variables[0]}")


def _run(source: Path, target: Path, config: Path | None, stoppable: Stoppable) -> None:
    settings = load_settings(config)
    if not source.is_dir():
        raise NoStudyError(f"the input folder {source} does not exist or is no folder: give one with -i")
    _check_target(target)
    _say("reading the input")
    # Late: the SDK takes seconds to import, and a wrong flag should be told at once.
    from app.analyse import load, run
    from app.application import Job
    from operators.load_study import find_input_files, load_study
    from operators.report.composed import ReportContext

    paths = find_input_files(source)
    studies = load_study(paths, accept_secondary_capture=settings.analysis.accept_secondary_capture)
    _say("loading the models")
    engines = load(settings)
    context = ReportContext(composed_at=datetime.now().astimezone())
    with stoppable.scratch() as scratch:
        results = []
        for number, study in enumerate(studies, start=1):
            _say(f"analysing study {number} of {len(studies)}: {len(study.instances)} images")
            results.append(scratch / str(number))
            job = Job(study.paths, results[-1], context)
            run(job, engines=engines, settings=settings)
        merged = scratch / "output"
        _merge(results, merged)
        try:
            with stoppable.publishing():
                publish(merged, target)
        except OSError as error:
            raise OutputError(_unwritable(target, error)) from None
    _say(f"done: {target}")


def _say(progress: str) -> None:
    print(f"busmap: {progress}", file=sys.stderr, flush=True)


def _check_target(target: Path) -> None:
    """Refuse before the work what would fail after it."""
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OutputError(f"the output folder {target} is not an empty folder: give a new or empty one")
    except OSError as error:
        raise OutputError(_unwritable(target, error)) from None
    place = target if target.exists() else target.parent
    if not place.is_dir():
        raise OutputError(f"the folder {place} does not exist: make it, or give another output folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{place} cannot be written by user id {os.getuid()}: give a folder that can")


def _unwritable(target: Path, error: OSError) -> str:
    return f"the output folder {target} cannot be written ({error.strerror}): check space and permissions"


def _merge(results: Sequence[Path], merged: Path) -> None:
    """One flat folder from the results of all studies; a single one stays as it is."""
    if len(results) == 1:
        results[0].rename(merged)
        return
    merged.mkdir()
    facts: dict[str, list[Mapping[str, Any]]] = {"studies": [], "objects": []}
    for number, result in enumerate(results, start=1):
        of_study = json.loads((result / _RESULT).read_text(encoding="utf-8"))
        for one in of_study["objects"]:
            one["file"] = f"study{number:03d}-{one['file']}"
        facts["studies"].append(of_study)
        facts["objects"] += of_study["objects"]
        for path in result.iterdir():
            if path.name != _RESULT:
                path.rename(merged / f"study{number:03d}-{path.name}")
    (merged / _RESULT).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    metadata = {
        "status": "several-studies",
        "studies": len(results),
        "disclaimer": facts["studies"][0]["disclaimer"],
    }
    (merged / "metadata.json").write_text(json.dumps(metadata) + "\n", encoding="utf-8")


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
        for path in sorted(partial.iterdir(), key=lambda path: (path.name == _RESULT, path.name)):
            moved.append(target / path.name)
            path.rename(moved[-1])
        partial.rmdir()
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        raise
