"""A real PostgreSQL server on a Unix socket, for tests."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.waiting import wait_until

_INSTALLED = Path("/usr/lib/postgresql")  # Debian keeps initdb and postgres off the path


def _programs() -> Path:
    found = sorted(_INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("postgresql is not installed: make peers")
    return found[-1].parent


def _unprivileged() -> dict[str, Any]:
    """What makes a program run as another user where the tests are root's: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Server:
    """A server that runs, kills its own sessions and restarts as a test asks it to."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder, self._programs = folder, programs
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def make(self) -> None:
        """Make the cluster."""
        command = [self._programs / "initdb", "-D", self._folder / "data", "--auth=trust", "-U", "busmap"]
        command += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        with (self._folder / "initdb.log").open("wb") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd="/", **_unprivileged())

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [self._programs / "postgres", "-D", self._folder / "data", "-k", self._folder]
        command += ["-c", "listen_addresses=", "-c", "max_connections=200"]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **_unprivileged())
        wait_until(self._answers, "PostgreSQL to answer")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends all sessions and stops; SIGQUIT stops as a crash would."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def url(self, database: str) -> str:
        """The address of a database, over the socket."""
        return f"postgresql://busmap@/{database}?host={self._folder}"

    def new_database(self) -> str:
        """The address of a database that nobody has used."""
        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "server.log").read_text()
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url("postgres")).close()
            return True
        return False


@contextlib.contextmanager
def running_postgresql() -> Iterator[Server]:
    """A server of its own, on a folder that goes with it."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="busmap-postgresql-"))  # short: the name of a socket is limited
    try:
        if user := _unprivileged():
            os.chown(folder, user["user"], user["group"])
        server = Server(folder, programs)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # its folder goes: nothing is to be written any more
    finally:
        shutil.rmtree(folder, ignore_errors=True)
