"""Real peers of a node on loopback: Orthanc, DCMTK's storescp, pynetdicom's qrscp."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from pynetdicom import AE

from tests.node.rig import VERIFICATION, free_port, wait_for
from tests.orthanc import Orthanc, running_orthanc
from tests.programs import program


def archive(folder: Path) -> AbstractContextManager[Orthanc]:
    """Orthanc that lets itself be asked, by C-FIND and by DICOMweb."""
    plugins = ["libOrthancDicomWeb.so"]
    return running_orthanc(folder, plugins, DicomAlwaysAllowFind=True, OverwriteInstances=True)


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
