"""The supervisor: restarts what dies, stops everything, and has a true exit status."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.node.process import GATEWAY_FILE, WORKER_FILE, read_runtime_file
from tests.node.rig import LIMIT_SECONDS, Node, echo, wait_for


class Served:
    """`app.node.supervise` as a process."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.node.supervise", "--supervised", "--analyser", "tests.node.analyser"],
            stdin=subprocess.PIPE,
            stderr=node.log_path.open("ab"),
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdin is not None
        self.process.stdin.write(node.settings.model_dump_json().encode() + b"\n")
        self.process.stdin.flush()

    def facts(self, file: str, other_than: int = 0) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            facts = read_runtime_file(self.node.folder / file)
            return facts if facts and facts["pid"] != other_than else None

        return wait_for(found)


@pytest.fixture
def served(make_node: Any) -> Iterator[Served]:
    one = Served(make_node())
    yield one
    one.process.kill()
    one.process.wait()


def test_what_dies_is_started_again_and_sigterm_stops_all(served: Served) -> None:
    gateway, worker = served.facts(GATEWAY_FILE), served.facts(WORKER_FILE)
    assert echo(gateway["port"]) == 0
    os.kill(gateway["pid"], signal.SIGKILL)
    os.kill(worker["pid"], signal.SIGKILL)
    gateway = served.facts(GATEWAY_FILE, other_than=gateway["pid"])
    worker = served.facts(WORKER_FILE, other_than=worker["pid"])
    assert echo(gateway["port"]) == 0
    family = psutil.Process(served.process.pid).children(recursive=True)
    served.process.terminate()
    assert served.process.wait(LIMIT_SECONDS) == 0
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)
    assert not (served.node.folder / GATEWAY_FILE).exists()
    assert not (served.node.folder / WORKER_FILE).exists()


def test_nobody_outlives_the_supervisor(served: Served) -> None:
    served.facts(GATEWAY_FILE)
    served.facts(WORKER_FILE)
    family = psutil.Process(served.process.pid).children(recursive=True)
    assert len(family) >= 3
    served.process.kill()
    psutil.wait_procs(family, timeout=LIMIT_SECONDS)
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)


def test_port_in_use_ends_with_a_reason(make_node: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = Served(make_node(gateway={"port": taken.getsockname()[1]}))
        assert one.process.wait(LIMIT_SECONDS) == 16
    [line] = [line for line in one.node.log_lines() if line["event"] == "gateway-cannot-start"]
    assert line["code"] == "address-unusable"
    assert "in use" in line["remedy"]
