"""OHIF's published build, served on loopback in front of an Orthanc's DICOMweb, all under one origin."""

from __future__ import annotations

import http.server
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}
_TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".css": "text/css", ".html": "text/html"}


def ohif_build() -> Path:
    """The folder of OHIF's build that `make viewers` unpacked; the test skips where it is not there."""
    build = Path(os.environ.get("OHIF_BUILD") or REPOSITORY / ".viewers" / "package" / "dist")
    if not (build / "index.html").is_file():
        pytest.skip("OHIF is not installed: make viewers")
    return build


@contextmanager
def running_ohif(orthanc_root: str) -> Iterator[str]:
    """Serve OHIF in front of Orthanc; yields its address."""
    build = ohif_build()

    class Handler(_Handler):
        root, upstream = build, orthanc_root

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    root: Path
    upstream: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web/"):
            self._proxy()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", _configuration().encode())
        else:
            file = (self.root / path.lstrip("/")).resolve()
            if not (file.is_file() and file.is_relative_to(self.root.resolve())):
                file = self.root / "index.html"  # a page of the single-page application
            kind = _TYPES.get(file.suffix, "application/octet-stream")
            self._answer(200, kind, file.read_bytes())

    def _proxy(self) -> None:
        request = urllib.request.Request(self.upstream + self.path)
        request.add_header("Accept", self.headers.get("Accept", "*/*"))
        try:
            with urllib.request.urlopen(request) as answer:
                status, headers, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, headers, body = error.code, error.headers, error.read()
        self._answer(status, headers.get("Content-Type", "application/octet-stream"), body)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _configuration() -> str:
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "orthanc",
        "configuration": {
            "friendlyName": "Orthanc",
            "name": "orthanc",
            "qidoRoot": "/dicom-web",
            "wadoRoot": "/dicom-web",
            "wadoUriRoot": "/dicom-web",
            "qidoSupportsIncludeField": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
        },
    }
    settings = {
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 1,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "investigationalUseDialog": {"option": "never"},
        "useCPURendering": False,
        "defaultDataSourceName": "orthanc",
        "dataSources": [source],
    }
    return f"window.config = {json.dumps(settings)};"
