"""A real Orthanc on loopback for tests: its own folder, free ports, plugins by choice."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.programs import program
from tests.waiting import wait_until

PLUGINS = Path("/usr/share/orthanc/plugins")


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: where it listens."""

    ae_title: str
    dicom_port: int
    root: str

    def get(self, path: str) -> bytes:
        """The body of a GET on its REST interface."""
        with urllib.request.urlopen(f"{self.root}{path}") as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        """The same, read as JSON."""
        return json.loads(self.get(path))

    def post(self, path: str, body: Any) -> Any:
        """The JSON that a POST of JSON is answered with."""
        request = urllib.request.Request(self.root + path, data=json.dumps(body).encode())
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def held(self) -> list[Dataset]:
        """All objects that it holds."""
        return [dcmread(io.BytesIO(self.get(f"/instances/{one}/file"))) for one in self.json("/instances")]

    def correct(self, study_instance_uid: str, **values: str) -> None:
        """Change the patient of a study, as an administrator does, and keep all UIDs."""
        query = {"Level": "Study", "Query": {"StudyInstanceUID": study_instance_uid}}
        [study] = self.post("/tools/find", query)
        self.post(
            f"/patients/{self.json(f'/studies/{study}')['ParentPatient']}/modify",
            {
                "Replace": values,
                "Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"],
                "Force": True,
                "KeepSource": False,
            },
        )


@contextmanager
def running_orthanc(folder: Path, plugins: Sequence[str] = (), **more: Any) -> Iterator[Orthanc]:
    """Start Orthanc in `folder`; skips the test where it or a plugin is not installed.

    `more` goes into its configuration.
    """
    command = program("Orthanc")
    for plugin in plugins:
        if not (PLUGINS / plugin).exists():
            pytest.skip(f"Orthanc's {plugin} is not installed: make viewers")
    dicom_port, http_port = free_ports(2)
    configuration = {
        "DicomAet": "TESTPACS",
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAlwaysAllowStore": True,
        "Plugins": [str(PLUGINS / plugin) for plugin in plugins],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "WebViewer": {"CachePath": str(folder / "viewer-cache")},
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    orthanc = Orthanc("TESTPACS", dicom_port, f"http://127.0.0.1:{http_port}")
    with (folder / "orthanc.log").open("wb") as log:
        server = subprocess.Popen([command, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(orthanc), "Orthanc to answer")
        yield orthanc
    finally:
        server.terminate()
        server.wait(20)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, for servers that cannot be given port 0."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _answers(orthanc: Orthanc) -> bool:
    try:
        orthanc.get("/system")
    except OSError:
        return False
    return True
