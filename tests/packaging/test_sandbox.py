"""The systemd unit's command line in the unit's sandbox: a study in, its result out, stopped by SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest
import yaml

from app.demo.studies import make_study, read_samples
from app.node.process import GATEWAY_FILE
from app.send import send
from tests.node.rig import LIMIT_SECONDS, Pacs, wait_for
from tests.packaging.hosts import ROOT
from tests.packaging.sandbox import USER, Unit, confined

UNIT = Unit(ROOT / "packaging" / "appliance" / "systemd" / "busmap.service")
# Each line tries what the unit takes away, and prints what came of it.
PROBE = """
import ctypes, json, mmap, os, socket
from pathlib import Path
def tried(what):
    try: return str(what())
    except OSError as error: return error.strerror
libc = ctypes.CDLL(None, use_errno=True)
def keyring():
    if libc.syscall(250, 0, -1) < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
lines = Path("/proc/self/status").read_text().splitlines()
status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
print(json.dumps({
    "uid": os.getuid(), "caps": {status[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16},
    "no_new_privs": status["NoNewPrivs"],
    "etc": tried(lambda: Path("/etc/probe").write_text("x")),
    "state": tried(lambda: Path("/var/lib/busmap/probe").write_text("x")),
    "root": tried(lambda: os.setuid(0)),
    "packet": tried(lambda: socket.socket(17, socket.SOCK_RAW)),
    "code": tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC) and "made"),
    "keyring": tried(keyring),
    "meminfo": Path("/proc/meminfo").exists(),
}))
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    if os.getuid() == 0:
        os.chown(folder, USER, USER)
    return folder


def test_what_the_unit_takes_away_is_gone(tmp_path: Path, state: Path) -> None:
    command = confined(UNIT, tmp_path / "sandbox", {"/var/lib/busmap": state}, [sys.executable, "-c", PROBE])
    answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {
        "uid": USER,
        "caps": True,
        "no_new_privs": "1",
        "etc": "Read-only file system",
        "state": "1",
        "root": "Operation not permitted",
        "packet": "Address family not supported by protocol",
        "code": "Operation not permitted",
        "keyring": "Operation not permitted",
        "meminfo": False,
    }


class Service:
    """The unit's service with a systemd's ear at its notify socket."""

    def __init__(self, folder: Path, state: Path, pacs: Pacs) -> None:
        self.state, self.log = state, folder / "log"
        settings = {
            "gateway": {"host": "127.0.0.1", "port": 0, "minimum_free_disk_mib": 1},
            "web": {"port": 0},
            "assembly": {"quiet_period_seconds": 0.5},
            "delivery": {
                "destinations": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}]
            },
        }
        (folder / "busmap.yaml").write_text(yaml.safe_dump(settings))
        (folder / "busmap.yaml").chmod(0o644)
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(f"\0busmap-test-{os.getpid()}")
        self._ear.setblocking(False)
        files = {"/etc/busmap/busmap.yaml": folder / "busmap.yaml", "/var/lib/busmap": state}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                confined(UNIT, folder / "sandbox", files, UNIT.command),
                stderr=log,
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("BUSMAP_")},
                    "NOTIFY_SOCKET": f"@busmap-test-{os.getpid()}",
                    "WATCHDOG_USEC": str(int(UNIT["WatchdogSec"]) * 1_000_000),
                    "PYTHONPATH": str(ROOT),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
            )

    def hear(self, wanted: str) -> None:
        """Wait for a notification."""
        wait_for(lambda: wanted in self._next())

    def _next(self) -> str:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self._ear.recv(4096).decode()
        except BlockingIOError:
            return ""

    @property
    def main(self) -> psutil.Process:
        """The service's main process: the supervisor."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        [found] = [
            one for one in family if "serve" in one.cmdline() and "confine.py" not in " ".join(one.cmdline())
        ]
        return found

    def stop(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.wait()
        self._ear.close()


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    one = Pacs().start()
    yield one
    one.stop()


def test_a_study_goes_through_the_confined_node(tmp_path: Path, state: Path, pacs: Pacs) -> None:
    service = Service(tmp_path, state, pacs)
    try:
        service.hear("READY=1")
        service.hear("analysing")
        facts = json.loads((state / GATEWAY_FILE).read_text())
        study = make_study(read_samples()[0], tmp_path, 1, datetime(2026, 1, 2))
        assert all(one.stored for one in send(study.paths, "127.0.0.1", facts["port"], "BUSMAP"))
        wait_for(lambda: {"SR", "OT"} <= {str(one.Modality) for one in pacs.order})
        service.main.send_signal(signal.SIGTERM)
        service.hear("STOPPING=1")
        assert service.process.wait(LIMIT_SECONDS) == 0
        kept = [path for path in state.rglob("*") if path.is_file()]
        assert kept
        assert {path.stat().st_uid for path in kept} == {USER}
        assert {path.stat().st_mode & 0o077 for path in kept} == {0}, "nobody else reads images"
    finally:
        service.stop()
