"""The HTTP side of the gateway: /livez, /readyz, /metrics, /version, and their OpenAPI description.

Promises: an address that cannot be listened on costs no image: it is said in the log, and receiving goes on.
Answers hold no patient data. Refuses nothing to anybody who reaches the port: loopback unless set otherwise.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from app.logs import log
from app.node.clock import Clock
from app.node.counters import GatewayCounts
from app.node.store.database import Store
from app.settings import Settings
from app.web.health import Process, check_node
from app.web.metrics import NodeCollector, exposition

_STOP_SECONDS = 5.0
RESEARCH_USE = "Research use. Not a cleared device, not for diagnosis."


class Alive(BaseModel):
    """Answer of /livez."""

    status: str = Field("alive", description="the process answers")


class Dependency(BaseModel):
    """One row of /readyz."""

    name: str = Field(description="what the node needs")
    ready: bool = Field(description="whether it is there")
    detail: str = Field(description="how it is, or cause and remedy")


class Ready(BaseModel):
    """Answer of /readyz."""

    ready: bool = Field(description="whether all dependencies are ready")
    dependencies: list[Dependency]


class Version(BaseModel):
    """Answer of /version."""

    name: str = "busmap"
    version: str
    use: str = RESEARCH_USE


def make_app(
    settings: Settings, store: Store, clock: Clock, answers: GatewayCounts, process: Process = "gateway"
) -> FastAPI:
    """The application, over an open store; `process` is the one that answers."""
    release = version("busmap")
    collector = NodeCollector(settings, store, clock, answers, release, process)
    app = FastAPI(title="busmap", version=release, description=RESEARCH_USE, docs_url=None, redoc_url=None)

    @app.get("/livez")
    def livez() -> Alive:
        """Whether the process answers."""
        return Alive()

    @app.get("/readyz", response_model=Ready, responses={503: {"model": Ready, "description": "not ready"}})
    def readyz() -> Response:
        """Whether the process can do its work: each dependency by name."""
        checks = check_node(settings, store, process)
        ready = all(check.ready for check in checks)
        body = {"ready": ready, "dependencies": [asdict(check) for check in checks]}
        return JSONResponse(body, status_code=200 if ready else 503)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(exposition(collector), media_type=CONTENT_TYPE_LATEST)

    @app.get("/version")
    def release_version() -> Version:
        """Which busmap this is."""
        return Version(version=release)

    return app


class WebServer:
    """The application on its own thread. `port` is the one it listens on, None where it does not."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        answers: GatewayCounts,
        process: Process = "gateway",
    ) -> None:
        self.port: int | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        if settings.web.enabled:
            self._start(settings, make_app(settings, store, clock, answers, process))

    def _start(self, settings: Settings, app: Any) -> None:
        host, port = settings.web.host, settings.web.port
        try:
            listener = socket.create_server((host, port), family=_family(host))
        except OSError as error:
            log().error(
                "web-cannot-listen", host=host, port=port, error=type(error).__name__, remedy="set web.port"
            )
            return
        self.port = int(listener.getsockname()[1])
        configuration = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=5, limit_concurrency=32
        )
        server = self._server = uvicorn.Server(configuration)
        self._thread = threading.Thread(
            target=lambda: server.run(sockets=[listener]), name="web", daemon=True
        )
        self._thread.start()
        log().info("web-listening", host=host, port=self.port)

    def stop(self) -> None:
        """Let go of the port."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_SECONDS)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
