"""The node as the demo runs it: `busmap serve` in a process of its own, with a state folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.demo.pacs import Pacs
from app.errors import AnalysisError

_START_SECONDS = 180.0  # ten in peace; a machine busy with much else has needed ninety


@dataclass(frozen=True)
class Node:
    """A running node: where it listens, and the folder of its state."""

    ae_title: str
    port: int
    state: Path
    process: subprocess.Popen[bytes]

    @property
    def gateway_pid(self) -> int:
        """Process id of the gateway."""
        return int(json.loads((self.state / "gateway.json").read_text(encoding="utf-8"))["pid"])

    def check_alive(self) -> None:
        """Raise AnalysisError where the node has ended."""
        if self.process.poll() is not None:
            raise AnalysisError(
                f"the node ended with status {self.process.returncode}: see {self.state.parent}"
            )

    def result(self, study_instance_uid: str) -> dict[str, Any] | None:
        """The facts of the newest result of a study; None before there is one."""
        path = self._newest(study_instance_uid)
        return None if path is None else dict(json.loads(path.read_text(encoding="utf-8")))

    def page(self, study_instance_uid: str) -> Path | None:
        """The report page of the newest result of a study."""
        path = self._newest(study_instance_uid)
        return None if path is None else path.with_name("report.html")

    def _newest(self, study_instance_uid: str) -> Path | None:
        wanted = f'"study_instance_uid": "{study_instance_uid}"'
        found = [
            path
            for path in self.state.glob("results/*/*/result.json")
            if wanted in path.read_text(encoding="utf-8")
        ]
        return max(found, default=None)


@contextlib.contextmanager
def running_node(
    folder: Path, pacs: Pacs, quiet_period_seconds: float, poll_seconds: float = 0.05
) -> Iterator[Node]:
    """Start gateway and worker, wait until both are ready, stop them at the end.

    Raises
    ------
    AnalysisError
        They did not get ready in time.
    """
    state = folder / "state"
    state.mkdir(parents=True)
    destination = {"name": "demo", "ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.port}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BUSMAP_")},
        "BUSMAP_STATE_FOLDER": str(state),
        "BUSMAP_GATEWAY__HOST": "127.0.0.1",
        "BUSMAP_GATEWAY__PORT": "0",
        "BUSMAP_WEB__PORT": "0",
        "BUSMAP_GATEWAY__MINIMUM_FREE_DISK_MIB": "64",
        "BUSMAP_ASSEMBLY__QUIET_PERIOD_SECONDS": str(quiet_period_seconds),
        "BUSMAP_ASSEMBLY__POLL_SECONDS": str(poll_seconds),
        "BUSMAP_DELIVERY__DESTINATIONS": json.dumps([destination]),
    }
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve"], env=environment, stdout=log, stderr=log
        )
    try:
        yield Node("BUSMAP", _wait_until_ready(process, state), state, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], state: Path) -> int:
    deadline = time.monotonic() + _START_SECONDS
    gateway, worker = state / "gateway.json", state / "worker.json"
    while time.monotonic() < deadline and process.poll() is None:
        if gateway.exists() and worker.exists():
            told = json.loads(worker.read_text(encoding="utf-8"))
            if told["ready"]:
                return int(json.loads(gateway.read_text(encoding="utf-8"))["port"])
            if told.get("message"):
                raise AnalysisError(told["message"])
        time.sleep(0.05)
    log = state.parent / "node.log"
    if process.poll() is not None:
        raise AnalysisError(f"the node ended with status {process.returncode} before it was ready: see {log}")
    raise AnalysisError(f"gateway and worker were not ready after {_START_SECONDS:.0f} s: see {log}")
