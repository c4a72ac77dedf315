"""The receivers that are compared: busmap's gateway, Orthanc, DCMTK's storescp, each a process of its own.

All get TCP_NODELAY (DCMTK's libraries set it where the environment says TCP_NODELAY=1; without it each answer
of Orthanc waits 40 ms for a delayed acknowledgement) and may use PDUs of 128 KiB.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.demo.pacs import free_port
from app.errors import PeerError
from app.node.process import GATEWAY_FILE, read_runtime_file

BUSMAP, ORTHANC, STORESCP = "busmap", "Orthanc", "storescp"
_PDU_BYTES = 128 * 1024
_START_SECONDS = 30.0
_PROGRAMS = {ORTHANC: "Orthanc", STORESCP: "storescp"}


@dataclass(frozen=True)
class Receiver:
    """A running receiver."""

    name: str
    ae_title: str
    port: int
    folder: Path


def available() -> list[str]:
    """The receivers that can be started here, busmap first."""
    return [BUSMAP, *(name for name, program in _PROGRAMS.items() if _program(program))]


def missing() -> list[str]:
    """The receivers that cannot."""
    return [name for name, program in _PROGRAMS.items() if not _program(program)]


def version(name: str) -> str:
    """What the program calls itself."""
    program = _program(_PROGRAMS[name])
    assert program is not None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return said.splitlines()[0].strip("$ ").removeprefix("dcmtk: ")


@contextlib.contextmanager
def running(name: str, folder: Path, wrapper: Sequence[str] = ()) -> Iterator[Receiver]:
    """Start a receiver on an empty folder, under `wrapper` (a tracer) where given; stop it at the end.

    Raises
    ------
    PeerError
        It did not listen in time.
    """
    folder.mkdir(parents=True)
    port = 0 if name == BUSMAP else free_port()
    command, environment = _start_of(name, folder, port)
    with (folder / "log").open("wb") as log:
        # A session of its own, so that a tracer and what it traces end together.
        process = subprocess.Popen(
            [*wrapper, *command], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        port = _wait_until_listening(name, process, folder, port)
        yield Receiver(name, name.upper(), port, folder)
    finally:
        _stop(process)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _start_of(name: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Command and environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("BUSMAP_")}
    environment["TCP_NODELAY"] = "1"
    if name == BUSMAP:
        environment |= {
            "BUSMAP_STATE_FOLDER": str(folder / "state"),
            "BUSMAP_GATEWAY__HOST": "127.0.0.1",
            "BUSMAP_GATEWAY__PORT": "0",
            "BUSMAP_GATEWAY__AE_TITLE": BUSMAP.upper(),
            "BUSMAP_GATEWAY__MINIMUM_FREE_DISK_MIB": "64",
        }
        return [sys.executable, "-m", "app.node.gateway"], environment
    program = _program(_PROGRAMS[name])
    assert program is not None
    if name == STORESCP:
        options = ["--fork", "-pdu", str(_PDU_BYTES), "-aet", name.upper(), "-od", str(folder)]
        return [program, *options, str(port)], environment
    settings = {
        "DicomAet": name.upper(),
        "DicomPort": port,
        "DicomAlwaysAllowStore": True,
        "HttpServerEnabled": False,
        "MaximumPduLength": _PDU_BYTES,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    return [program, str(folder / "orthanc.json")], environment


def _wait_until_listening(name: str, process: subprocess.Popen[bytes], folder: Path, port: int) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if name == BUSMAP:
            facts = read_runtime_file(folder / "state" / GATEWAY_FILE)
            if facts:
                return int(facts["port"])
        else:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return port
        time.sleep(0.05)
    raise PeerError(f"{name} did not start: see {folder / 'log'}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
