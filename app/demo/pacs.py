"""A small PACS on loopback for the demo: pynetdicom's qrscp in a process and folder of its own.

Not part of the product: qrscp is for tests (CVE-2026-56445), so it listens on 127.0.0.1 alone, for as long
as the demo runs.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from app.errors import PeerError

_START_SECONDS = 30.0


@dataclass(frozen=True)
class Pacs:
    """A running PACS: where it listens, and the folder of what it holds."""

    ae_title: str
    port: int
    instances: Path

    def stored(self) -> list[Path]:
        """The files of the objects it holds."""
        return [path for path in self.instances.rglob("*") if path.is_file()]


def free_port() -> int:
    """A TCP port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_pacs(folder: Path, ae_title: str = "DEMOPACS") -> Iterator[Pacs]:
    """Start qrscp with database and instances under `folder`; stop it at the end.

    Raises
    ------
    PeerError
        It did not answer C-ECHO in time.
    """
    instances, port = folder / "instances", free_port()
    instances.mkdir(parents=True)
    command = [sys.executable, "-m", "pynetdicom", "qrscp", "--port", str(port), "-ba", "127.0.0.1"]
    command += ["-aet", ae_title, "--database-location", str(folder / "pacs.sqlite")]
    command += ["--instance-location", str(instances)]
    with (folder / "pacs.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _wait_for_echo(process, port, ae_title)
        yield Pacs(ae_title, port, instances)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_echo(process: subprocess.Popen[bytes], port: int, ae_title: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        entity = AE(ae_title="BUSMAPDEMO")
        entity.add_requested_context(Verification)
        association = entity.associate("127.0.0.1", port, ae_title=ae_title)
        if association.is_established:
            association.release()
            return
        time.sleep(0.1)
    raise PeerError("the demo's PACS did not start: see pacs.log in the folder of the demo")
