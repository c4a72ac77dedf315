"""One folder in, one folder out: what a MAP host calls, and `busmap run`.

Promises: the input is only read; nothing is written but the output and the temporary folder; the output
appears whole or not at all; any user id will do; a failure is one line that names cause and remedy, and a
true exit status. "Nothing usable" is a result (status 0), not a failure. A study that cannot be analysed
keeps no other of its folder from its result; exit status, result.json and metadata.json tell of it.
What is particular to a host is in app/hosts.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from app.errors import Failure
from app.hosts import Host, find_host, input_folder, output_folder
from app.publish import FailedStudy, check_target, merge, partly_failed, publish, unwritable
from app.settings import Settings, load_settings
from app.stopping import Stoppable
from operators.study import NoStudyError


def main(given_input: Path | None, given_output: Path | None, config: Path | None = None) -> int:
    """Run once and return the exit status; every failure is said on stderr in one line."""
    host = find_host(os.environ)
    target: Path | None = None
    try:
        with Stoppable() as stoppable:
            source = input_folder(given_input)
            target = output_folder(given_output)
            _run(source, target, config, host, stoppable)
    except Exception as error:  # the user gets a line, not a traceback
        failure = Failure.of(error)
        print(f"busmap: {failure.code}: {failure.message}", file=sys.stderr)
        if target is not None:
            host.failed(target, failure)
        return failure.exit_status
    return 0


def _run(source: Path, target: Path, config: Path | None, host: Host, stoppable: Stoppable) -> None:
    """Analyse and publish; raises StudiesFailedError after that where some studies have no result."""
    if not source.is_dir():
        raise NoStudyError(f"the input folder {source} does not exist or is no folder: give one with -i")
    settings = load_settings(config, host.settings(source))
    check_target(target)
    with stoppable.scratch() as scratch:
        results: list[Path] = []
        failed: list[FailedStudy] = []
        errors: list[Exception] = []
        for uid, outcome in _analysed(source, settings, scratch):
            if isinstance(outcome, Path):
                results.append(outcome)
            else:
                errors.append(outcome)
                failed.append(FailedStudy(uid, Failure.of(outcome)))
        if len(errors) == 1 and not results:
            raise errors[0]
        count = len(results) + len(failed)
        if results:
            merged = scratch / "output"
            merge(results, failed, merged)
            host.finish(merged)
            try:
                with stoppable.publishing():
                    publish(merged, target)
            except OSError as error:
                raise unwritable(target, error) from None
    if failed:
        raise partly_failed(failed, count)
    _say(f"done: {target}")


def _analysed(source: Path, settings: Settings, scratch: Path) -> Iterator[tuple[str, Path | Exception]]:
    """Study Instance UID and result folder of each study, or the error that kept it from one."""
    _say("reading the input")
    # Late: the SDK takes seconds to import, and a wrong flag should be told at once.
    from app.analyse import load, run
    from app.application import Job
    from operators.load_study import find_input_files, read_studies
    from operators.report.composed import ReportContext

    read = read_studies(
        find_input_files(source), accept_secondary_capture=settings.analysis.accept_secondary_capture
    )
    count = len(read.studies) + len(read.refused)
    for refused in read.refused:
        if count > 1:
            _say(f"a study is left out: {refused.error.code}: {refused.error}")
        yield refused.study_instance_uid, refused.error
    if not read.studies:
        return
    _say("loading the models")
    engines = load(settings)
    context = ReportContext(composed_at=datetime.now().astimezone())
    for number, study in enumerate(read.studies, start=1):
        _say(f"analysing study {number} of {len(read.studies)}: {len(study.instances)} images")
        folder = scratch / str(number)
        try:
            run(Job(study.paths, folder, context), engines=engines, settings=settings)
        except Exception as error:  # the other studies of the folder go on
            yield study.study_instance_uid, error
        else:
            yield study.study_instance_uid, folder


def _say(progress: str) -> None:
    print(f"busmap: {progress}", file=sys.stderr, flush=True)
