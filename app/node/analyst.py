"""The worker's side of the analysis process: starts it, asks it, limits it, replaces it.

Promises: a request ends with a result on disk, with a named refusal, or with a named death; never later than
its time limit. After a death the next request meets a fresh process.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import IO, Any

from app.errors import AnalysisError
from app.logs import log
from app.settings import DATABASE_VARIABLE, Settings

RESOURCES_SHORT = "resources-short"  # no fault of a study: waited out, not counted
_LOAD_SECONDS = 300.0  # for starting and loading engines; a first start may have to verify models


class AnalysisRefused(Exception):
    """The analysis answered with an error. `permanent`: the same input will never do."""

    def __init__(self, code: str, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.code = code
        self.permanent = permanent


@dataclass(frozen=True)
class _Running:
    process: subprocess.Popen[bytes]
    answers: queue.Queue[dict[str, Any] | None]


class Analyst:
    """One analysis process, kept warm. Its methods may be called from any thread."""

    def __init__(self, settings: Settings, analyser: str) -> None:
        self._settings, self._analyser = settings, analyser
        self._limit_seconds = settings.analysis.timeout_seconds
        self._running: _Running | None = None
        self._lock = threading.RLock()
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Process id of the analysis process, None where there is none."""
        running = self._running
        return running.process.pid if running else None

    def prepare(self) -> list[str] | None:
        """Have a process with loaded engines; answers the engines' names, None where it is there already.

        Raises
        ------
        AnalysisRefused
            The engines cannot be loaded; the message names cause and remedy.
        AnalysisError
            The process died or took too long while loading.
        """
        with self._lock:
            if self._running is not None and self._running.process.poll() is None:
                return None
            self._end()
            if self._stopping:
                raise AnalysisError("the worker is stopping")
            self._running = _start(self._settings, self._analyser)
            answer = self._next_answer(self._running, _LOAD_SECONDS)
            if not answer["ready"]:
                self._end()
                raise AnalysisRefused(answer["code"], answer["message"], permanent=False)
            return list(answer["engines"])

    def ask(self, request: dict[str, Any]) -> None:
        """Have one study analysed; returns when its result is on disk.

        Raises
        ------
        AnalysisRefused
            The analysis answered with an error.
        AnalysisError
            The process died, or was stopped at its time limit.
        """
        with self._lock:
            self.prepare()
            running = self._running
            assert running is not None
            assert running.process.stdin is not None
            with contextlib.suppress(OSError):  # it died; the missing answer says so below
                running.process.stdin.write(json.dumps(request).encode() + b"\n")
                running.process.stdin.flush()
            answer = self._next_answer(running, self._limit_seconds)
            if answer.get("last"):
                self._end()
            if answer["code"] is not None:
                raise AnalysisRefused(answer["code"], answer["message"], permanent=answer["permanent"])

    def stop(self) -> None:
        """End the process now; a request under way fails."""
        self._stopping = True
        running = self._running
        if running is not None:
            running.process.kill()

    def _next_answer(self, running: _Running, limit_seconds: float) -> dict[str, Any]:
        try:
            answer = running.answers.get(timeout=limit_seconds)
        except queue.Empty:
            self._end()
            raise AnalysisError(
                f"The analysis took longer than analysis.timeout_seconds ({limit_seconds:g} s) and was "
                "stopped: raise that setting, or send fewer images."
            ) from None
        if answer is None:
            status = running.process.wait()
            self._end()
            log().error("analysis-process-died", exit_status=status)
            raise AnalysisError(
                f"The analysis process died ({_cause(status)}); an image of the study may be damaged, or the "
                "machine short of memory."
            )
        return answer

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.process.kill()
        running.process.wait()
        for stream in (running.process.stdin, running.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # what was still to be written has no reader any more
                stream.close()


def _cause(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _start(settings: Settings, analyser: str) -> _Running:
    # Whoever decodes foreign pixels does not get to know the database's password.
    settings = settings.model_copy(update={"database_url": ""})
    process = subprocess.Popen(
        [sys.executable, "-m", "app.node.child", "--supervised", "--analyser", analyser],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != DATABASE_VARIABLE},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(settings.model_dump_json().encode() + b"\n")
    process.stdin.flush()
    answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_collect, args=(process.stdout, answers), daemon=True).start()
    return _Running(process, answers)


def _collect(stream: IO[bytes], answers: queue.Queue[dict[str, Any] | None]) -> None:
    with contextlib.suppress(ValueError):  # a line cut by its death
        for line in stream:
            answers.put(json.loads(line))
    answers.put(None)
