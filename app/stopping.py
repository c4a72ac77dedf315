"""Ending a run on SIGTERM or Ctrl-C, its folders removed, whatever code is running.

The SDK puts handlers of its own in place while a graph runs (in C, so that Python sees nothing): they end the
process with status 1 and leave everything lying. Promises: a blocked signal reaches no handler, but one
thread of ours that waits for it (POSIX sigwait); it ends the process with 128 and the signal's number, as a
shell would give it. What is being published is finished first.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import OutputError

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_MOST_REMOVALS = 100  # the second has been enough; a bound, should removal itself be denied


def block_stop_signals() -> None:
    """Keep the signals from this thread and from all it starts: to be called before any import that does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


class Stoppable:
    """A run that may be ended at any moment; its scratch folder goes with it."""

    def __init__(self) -> None:
        self._scratch: Path | None = None
        self._ended = threading.Event()
        self._publishing = threading.Lock()
        self._waiter = threading.Thread(target=self._wait, name="stop", daemon=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for the run. No signal falls between its making and its being known here.

        Raises
        ------
        OutputError
            No temporary folder can be written.
        """
        with self._publishing:
            try:
                self._scratch = Path(tempfile.mkdtemp(prefix="busmap-"))
            except OSError as error:
                raise OutputError(
                    f"no temporary folder can be written ({error.strerror}): make /tmp writable (docker run: "
                    "--tmpfs /tmp), or name one by TMPDIR"
                ) from None
        try:
            yield self._scratch
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Within this the run is not ended; after it, it has its result."""
        with self._publishing:
            yield
            self._ended.set()

    def __enter__(self) -> Stoppable:
        """Begin to listen."""
        block_stop_signals()
        self._waiter.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more, and let signals through again."""
        self._ended.set()
        if self._waiter.is_alive() and self._waiter.ident:
            signal.pthread_kill(self._waiter.ident, signal.SIGTERM)
        self._waiter.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _wait(self) -> None:
        number = signal.sigwait(_SIGNALS)
        with self._publishing:
            if self._ended.is_set():
                return
            if self._scratch is not None:
                _remove(self._scratch)
            print("busmap: stopped; nothing was written", file=sys.stderr, flush=True)
            os._exit(128 + number)


def _remove(folder: Path) -> None:
    """Remove a folder that other threads still write to.

    Renamed first: what they make from now on by the old name fails. What was already on its way at that
    moment may still appear behind the removal, so it is repeated until nothing is left.
    """
    going = folder.with_name(f"{folder.name}-going")
    with suppress(OSError):
        folder.rename(going)
    for one in (going, folder):
        for _ in range(_MOST_REMOVALS):
            shutil.rmtree(one, ignore_errors=True)
            if not one.exists():
                break
