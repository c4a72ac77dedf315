"""What the supervisor tells systemd, heard on a real socket of systemd's kind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from app.node.process import GATEWAY_FILE
from tests.node.rig import LIMIT_SECONDS
from tests.node.test_supervise import Served
from tests.postgresql import Server


class Listener:
    """systemd's end."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.heard: list[str] = []

    def hear(self, wanted: str) -> None:
        """Wait for a message that contains `wanted`."""
        self._socket.settimeout(LIMIT_SECONDS)
        self.heard.clear()
        while not any(wanted in one for one in self.heard):
            self.heard.append(self._socket.recv(4096).decode())

    def falls_silent(self, seconds: float) -> None:
        """Wait until nothing has come for `seconds`: what was on its way may still come before."""
        self._socket.settimeout(seconds)
        until = time.monotonic() + LIMIT_SECONDS
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < until:
                self._socket.recv(4096)
            raise AssertionError(f"never silent for {seconds} s")


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listener:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "900000")
    return Listener(tmp_path / "notify")


def test_systemd_hears_ready_alive_and_stopping(systemd: Listener, make_node: Any) -> None:
    served = Served(make_node())
    try:
        systemd.hear("READY=1")
        gateway = served.facts(GATEWAY_FILE)
        systemd.hear(f"STATUS=receiving on port {gateway['port']}; analysing")
        systemd.hear("WATCHDOG=1")
        os.kill(gateway["pid"], signal.SIGSTOP)  # it runs, and answers nobody
        systemd.falls_silent(2)  # a sign was due every 0.3 s
        os.kill(gateway["pid"], signal.SIGCONT)
        systemd.hear("WATCHDOG=1")
        served.process.terminate()
        systemd.hear("STOPPING=1")
        assert served.process.wait(LIMIT_SECONDS) == 0
    finally:
        served.process.kill()
        served.process.wait()


@pytest.mark.peers
def test_systemd_hears_of_a_node_with_a_run_folder(
    systemd: Listener, make_node: Any, postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSMAP_DATABASE_URL", postgresql.new_database())
    monkeypatch.setenv("BUSMAP_RUN_FOLDER", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    served = Served(make_node())
    try:
        systemd.hear("READY=1")
        served.process.terminate()
        assert served.process.wait(LIMIT_SECONDS) == 0
    finally:
        served.process.kill()
        served.process.wait()
