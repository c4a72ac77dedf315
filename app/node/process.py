"""What the node's processes have in common: start, settings, signals, the little files that tell of them.

Promises: a process ends when whoever started it ends, even by SIGKILL; a runtime file is whole or absent.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import StoreError
from app.files import write_whole
from app.logs import configure_logs
from app.settings import Settings, load_settings

DEFAULT_ANALYSER = "app.analyse"
_LOCK_SECONDS = 15.0
GATEWAY_FILE, WORKER_FILE = "gateway.json", "worker.json"


@dataclass(frozen=True)
class Start:
    """What a process was started with. `analyser` names the module with `load` and `analyse`."""

    settings: Settings
    analyser: str


def start_process(name: str, arguments: Sequence[str] | None = None) -> Start:
    """Read arguments and settings, set up logs, and watch the parent.

    With --supervised the first line of stdin is the settings as JSON, and its end means the parent is gone.

    Raises
    ------
    SettingsError
        The settings from environment and file do not fit.
    """
    parser = argparse.ArgumentParser(prog=f"python -m app.node.{name}")
    parser.add_argument("--supervised", action="store_true", help="settings and liveness come over stdin")
    parser.add_argument("--analyser", default=DEFAULT_ANALYSER, help="module that analyses a study")
    given = parser.parse_args(arguments)
    os.umask(0o077)  # everything the node writes may hold a patient's image
    settings = _settings_from_parent() if given.supervised else load_settings()
    configure_logs(name, settings.log_level)
    return Start(settings, given.analyser)


def _settings_from_parent() -> Settings:
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(0)  # the parent died before it could say anything
    return Settings(**json.loads(line))


def stop_on_signals(*, supervised: bool) -> threading.Event:
    """An event that SIGTERM and SIGINT set, and, where supervised, the end of the parent."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if supervised:
        threading.Thread(target=_watch_parent, args=(stop,), name="parent", daemon=True).start()
    return stop


def is_supervised(arguments: Sequence[str] | None = None) -> bool:
    """Whether the process was started with --supervised."""
    return "--supervised" in (sys.argv if arguments is None else arguments)


def _watch_parent(stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    stop.set()


def hold_lock(folder: Path, name: str, stop: threading.Event) -> int:
    """Be the only process of this name on a folder; the kernel lets go when the process ends.

    Raises
    ------
    StoreError
        Another one holds the lock, and goes on holding it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    waited = 0.0
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if waited >= _LOCK_SECONDS or stop.is_set():
                os.close(handle)
                raise StoreError(
                    f"another {name} runs on the folder {folder}: stop it, or give this one a state_folder "
                    "of its own (where they share a PostgreSQL database, a run_folder of its own)"
                ) from None
            stop.wait(0.1)  # a predecessor may be ending
            waited += 0.1


def write_runtime_file(path: Path, facts: dict[str, Any]) -> None:
    """Write a small JSON file in one go."""
    write_whole(path, json.dumps(facts).encode())


def read_runtime_file(path: Path) -> dict[str, Any] | None:
    """The facts of a process that runs; None where it does not, or its file was left by a kill."""
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
        os.kill(int(facts["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return facts


def forget_predecessor(path: Path) -> None:
    """Remove the file that a killed predecessor left: in a container the next process has its number again.

    For the holder of the lock alone.
    """
    path.unlink(missing_ok=True)


def remove_runtime_file(path: Path) -> None:
    """Remove the file of the own process; one that a successor wrote stays."""
    facts = read_runtime_file(path)
    if facts is None or facts.get("pid") == os.getpid():
        path.unlink(missing_ok=True)
