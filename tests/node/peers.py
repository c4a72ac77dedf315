"""Real peers of a node on loopback: Orthanc, DCMTK's storescp, pynetdicom's qrscp."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.node.rig import VERIFICATION, free_port, wait_for

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def program(name: str) -> str:
    """Where a peer's program is; the test skips where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make peers")
    return found


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    port: int
    root: str

    def ask(self, path: str, body: Any = None) -> Any:
        """GET a path of its REST interface, or POST `body` to it, and answer the JSON."""
        return json.loads(self.bytes(path, body))

    def bytes(self, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, data=data)
        with urllib.request.urlopen(request) as answer:
            return bytes(answer.read())

    def held(self) -> list[Dataset]:
        """All objects that it holds."""
        return [dcmread(io.BytesIO(self.bytes(f"/instances/{one}/file"))) for one in self.ask("/instances")]

    def correct(self, study_instance_uid: str, **values: str) -> None:
        """Change the patient of a study, as an administrator does, and keep all UIDs."""
        query = {"Level": "Study", "Query": {"StudyInstanceUID": study_instance_uid}}
        [study] = self.ask("/tools/find", query)
        self.ask(
            f"/patients/{self.ask(f'/studies/{study}')['ParentPatient']}/modify",
            {
                "Replace": values,
                "Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"],
                "Force": True,
                "KeepSource": False,
            },
        )


@contextlib.contextmanager
def orthanc(folder: Path, **configuration: Any) -> Iterator[Orthanc]:
    """Orthanc with DICOMweb; `configuration` is added to its file."""
    command = program("Orthanc")
    folder.mkdir(parents=True, exist_ok=True)
    port, http = free_port(), free_port()
    given = {
        "DicomAet": "PACS",
        "DicomPort": port,
        "HttpPort": http,
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "AuthenticationEnabled": False,
        "OverwriteInstances": True,
        "Plugins": [str(DICOMWEB)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **configuration,
    }
    (folder / "orthanc.json").write_text(json.dumps(given))
    one = Orthanc(port, f"http://127.0.0.1:{http}")
    with _running([command, str(folder / "orthanc.json")], folder / "orthanc.log"):
        wait_for(lambda: _answers(one))
        yield one


def _answers(one: Orthanc) -> bool:
    try:
        one.bytes("/system")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[int]:
    """DCMTK's storage SCP, which answers no query; yields its port."""
    command = program("storescp")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with _running([command, "-od", str(folder), "-aet", "PACS", str(port)], folder.with_suffix(".log")):
        wait_for(lambda: _echoes(port))
        yield port


@contextlib.contextmanager
def qrscp(folder: Path) -> Iterator[int]:
    """pynetdicom's query and retrieve SCP; yields its port."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "pynetdicom", "qrscp", "--port", str(port), "-ba", "127.0.0.1"]
    command += ["-aet", "PACS", "--database-location", str(folder / "qr.sqlite")]
    command += ["--instance-location", str(folder / "instances")]
    (folder / "instances").mkdir()
    with _running(command, folder.with_suffix(".log")):
        wait_for(lambda: _echoes(port))
        yield port


def _echoes(port: int) -> bool:
    entity = AE("TEST")
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", port, ae_title="PACS")
    if association.is_established:
        association.release()
        return True
    return False


@contextlib.contextmanager
def _running(command: list[str], log_path: Path) -> Iterator[None]:
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
