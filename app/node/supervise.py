"""`busmap serve`: gateway and worker as child processes, kept up.

Promises: a process that dies is started again, after a growing wait where it keeps dying; SIGTERM and SIGINT
stop all of them; the exit status is true; systemd is told how it goes where it asks. Refuses to go on where
one cannot even start the first time: its log line says why, and its exit status becomes ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from app.errors import BusmapError
from app.logs import configure_logs, log
from app.node.notify import Notifier
from app.node.process import (
    DEFAULT_ANALYSER,
    GATEWAY_FILE,
    WORKER_FILE,
    is_supervised,
    read_runtime_file,
    start_process,
    stop_on_signals,
)
from app.node.store.database import open_store
from app.settings import Settings

_SHORTEST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.2, 30.0
_HEALTHY_SECONDS = 30.0  # up for so long, the next death is a first one again
_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.1


class _Child:
    """One process and its history of deaths. Times are monotonic seconds."""

    def __init__(self, name: str, settings: Settings, arguments: Sequence[str], runtime: Path) -> None:
        self.name = name
        self._settings, self._arguments, self._runtime = settings, arguments, runtime
        self._wait = _SHORTEST_WAIT_SECONDS
        self._not_before = 0.0
        self._started = 0.0
        self._was_ready = False
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and hand it its settings; its stdin stays open as long as we live."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"app.node.{self.name}", "--supervised", *self._arguments],
            stdin=subprocess.PIPE,
            # Ctrl-C in a terminal reaches the whole group; the children are stopped by us, in order.
            start_new_session=True,
            # Many short-lived threads: glibc would keep a heap for each and never give it back.
            env={"MALLOC_ARENA_MAX": "2", **os.environ},
        )
        self._started = time.monotonic()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(self._settings.model_dump_json().encode() + b"\n")
            self.process.stdin.flush()

    def look(self) -> int | None:
        """Restart the process where it died and its wait is over; the status of one that cannot start."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._not_before:
                self.start()
            return None
        status = self.process.poll()
        if status is None:
            facts = read_runtime_file(self._runtime)
            self._was_ready = self._was_ready or bool(facts and facts["pid"] == self.process.pid)
            if now - self._started > _HEALTHY_SECONDS:
                self._wait = _SHORTEST_WAIT_SECONDS
            return None
        self._close_stdin()
        if not self._was_ready and status > 0:
            return status
        log().error("process-died", name=self.name, exit_status=status, seconds=round(self._wait, 1))
        self.process = None
        self._not_before, self._wait = now + self._wait, min(2 * self._wait, _LONGEST_WAIT_SECONDS)
        return None

    def stop(self, deadline: float) -> None:
        """Wait for the process to end after SIGTERM; kill it at the deadline."""
        if self.process is None:
            return
        try:
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log().error("process-killed", name=self.name)
            self.process.kill()
            self.process.wait()
        self._close_stdin()

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def _close_stdin(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


def serve(
    settings: Settings, *, analyser: str = DEFAULT_ANALYSER, stop: threading.Event | None = None
) -> int:
    """Run gateway and worker in the foreground until SIGTERM or SIGINT; answers the exit status.

    Parameters
    ----------
    analyser : module with `load` and `analyse`.
    stop : set to end; by default the signals set it.

    Raises
    ------
    StoreError
        The state folder or its database cannot be used.
    """
    os.umask(0o077)
    configure_logs("supervisor", settings.log_level)
    stop = stop or stop_on_signals(supervised=False)
    open_store(
        settings.state_folder, settings.database_url
    ).close()  # migrated once, before two processes want it
    for name in (GATEWAY_FILE, WORKER_FILE):
        if read_runtime_file(settings.own_folder / name) is None:
            (settings.own_folder / name).unlink(missing_ok=True)
    children = [
        _Child("gateway", settings, (), settings.own_folder / GATEWAY_FILE),
        _Child("worker", settings, ("--analyser", analyser), settings.own_folder / WORKER_FILE),
    ]
    notifier = Notifier(settings.own_folder, settings.web.host, os.environ)
    status = 0
    try:
        while not stop.is_set():
            failed = [found for child in children if (found := child.look()) is not None]
            if failed:
                status = failed[0]
                break
            notifier.look()
            stop.wait(_LOOK_SECONDS)
    finally:
        notifier.stopping()
        for child in children:
            child.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in children:
            child.stop(deadline)
    log().info("node-stopped", exit_status=status)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m app.node.supervise`: the node, with settings as every process reads them."""
    try:
        start = start_process("supervise", arguments)
        stop = stop_on_signals(supervised=is_supervised(arguments))
        return serve(start.settings, analyser=start.analyser, stop=stop)
    except BusmapError as error:
        log().error("node-cannot-start", code=error.code, remedy=str(error))
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
