"""What the supervisor tells systemd: ready, how it goes, still alive, stopping (sd_notify(3)).

Promises: says nothing and costs nothing where nobody asked (no NOTIFY_SOCKET); the node goes on whatever
becomes of the socket. "Still alive" is said only while the gateway answers, so that a watchdog is real.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from app.node.process import GATEWAY_FILE, WORKER_FILE, read_runtime_file

_ANSWER_SECONDS = 3.0
_STATUS_SECONDS = 1.0  # how often the status is looked at
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """One supervisor's line to systemd.

    Parameters
    ----------
    folder : where gateway and worker leave their runtime files.
    web_host : address that the gateway's web side listens on.
    environment : where systemd's variables are taken out of, so that no child speaks in our name.
    """

    def __init__(self, folder: Path, web_host: str, environment: MutableMapping[str, str]) -> None:
        address, watchdog, watched = (environment.pop(name, "") for name in _VARIABLES)
        self._folder = folder
        self._web_host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(web_host, web_host)  # noqa: S104 - not bound
        self._address = "\0" + address[1:] if address.startswith("@") else address
        ours = watched in ("", str(os.getpid()))
        self._period = int(watchdog) / 1e6 / 3 if watchdog.isdigit() and ours else None
        self._next_sign = self._next_look = 0.0
        self._ready, self._told = False, ""

    def look(self) -> None:
        """Say what is new, and that all is well where it is time for that. Called often."""
        if not self._address:
            return
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _STATUS_SECONDS
            self._tell_state()
        if self._period is not None and now >= self._next_sign:
            self._next_sign = now + self._period
            if not self._gateway_hangs():
                self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the node stops."""
        if self._address:
            self._send("STOPPING=1", "STATUS=stopping")

    def _tell_state(self) -> None:
        gateway, worker = (read_runtime_file(self._folder / name) for name in (GATEWAY_FILE, WORKER_FILE))
        if gateway is not None and not self._ready:
            self._ready = True
            self._send("READY=1")
        status = f"{_gateway_words(gateway)}; {_worker_words(worker)}"
        if status != self._told:
            self._told = status
            self._send(f"STATUS={status}")

    def _gateway_hangs(self) -> bool:
        """Whether the gateway runs and does not answer. One that died is started again without systemd."""
        facts = read_runtime_file(self._folder / GATEWAY_FILE)
        if facts is None or not facts.get("web_port"):
            return False
        connection = http.client.HTTPConnection(self._web_host, facts["web_port"], timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", "/livez")
            connection.getresponse()
            return False  # whatever it answers: it answers
        except (OSError, http.client.HTTPException):
            return read_runtime_file(self._folder / GATEWAY_FILE) == facts  # it did not just end
        finally:
            connection.close()

    def _send(self, *lines: str) -> None:
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(self._address)
            channel.send(message)


def _gateway_words(facts: Mapping[str, Any] | None) -> str:
    return f"receiving on port {facts['port']}" if facts else "not receiving: the gateway starts"


def _worker_words(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return "the worker starts"
    return "analysing" if facts.get("ready") else str(facts.get("message") or "loading the models")
