"""Gateways and workers as processes of their own on one PostgreSQL database and one spool, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import yaml

from app.node.process import GATEWAY_FILE, WORKER_FILE, read_runtime_file
from tests.node.rig import LIMIT_SECONDS, wait_for

ROOT = Path(__file__).parents[2]
# As operators start them; a worker is given the analyser of these tests.
COMMANDS = {
    "gateway": ("-m", "app.cli", "gateway"),
    "worker": ("-m", "app.node.worker", "--analyser", "tests.node.analyser"),
}


class Cluster:
    """Each process has a run folder of its own, as a host or a pod would; all else they share."""

    def __init__(self, folder: Path, database_url: str, destinations: Sequence[dict[str, Any]]) -> None:
        self.folder, self.url, self.state = folder, database_url, folder / "spool"
        self.log_path, self._config = folder / "cluster.log", folder / "busmap.yaml"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        settings = {
            "state_folder": str(self.state),
            "gateway": {"port": 0, "host": "127.0.0.1", "minimum_free_disk_mib": 1},
            "web": {"port": 0},
            "assembly": {"quiet_period_seconds": 0.4, "poll_seconds": 0.05},
            "delivery": {
                "destinations": list(destinations),
                "retry_minimum_seconds": 0.2,
                "retry_maximum_seconds": 0.5,
                "network_timeout_seconds": 10,
            },
        }
        self._config.write_text(yaml.safe_dump(settings))

    def start(self, name: str, **environment: str) -> None:
        """Start `gateway-...` or `worker-...`."""
        kind = name.split("-")[0]
        given = {
            "BUSMAP_CONFIG": str(self._config),
            "BUSMAP_RUN_FOLDER": str(self.run_folder(name)),
            "BUSMAP_DATABASE_URL": self.url,
        }
        with self.log_path.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *COMMANDS[kind]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **given, **environment},
                cwd=ROOT,
            )

    def run_folder(self, name: str) -> Path:
        return self.folder / name

    def facts(self, name: str) -> dict[str, Any]:
        """What the runtime file of a process says, once it is there; a worker's, once it is ready."""
        kind = name.split("-")[0]
        path = self.run_folder(name) / (GATEWAY_FILE if kind == "gateway" else WORKER_FILE)

        def ready() -> dict[str, Any] | None:
            assert self.processes[name].poll() is None, self.log_path.read_text()
            found = read_runtime_file(path)
            return found if found and (kind == "gateway" or found.get("ready")) else None

        return dict(wait_for(ready))

    def port(self, name: str) -> int:
        return int(self.facts(name)["port"])

    def kill(self, name: str) -> None:
        """SIGKILL; it is never started again."""
        self.processes[name].kill()
        self.ended(name)

    def ended(self, name: str) -> int:
        return self.processes.pop(name).wait(LIMIT_SECONDS)

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for name in list(self.processes):
            self.ended(name)

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql, values).fetchall()

    def worker_with(self, job_id: int) -> str:
        """The name of the process that has a job."""
        sql = "SELECT worker.name FROM worker JOIN job ON job.worker_id = worker.id WHERE job.id = %s"
        [[found]] = self.query(sql, job_id)
        pid = int(found.rsplit(":", 1)[1])
        return next(name for name, process in self.processes.items() if process.pid == pid)
