"""A node of real processes, a PACS and a scanner on loopback, for tests."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.dimse_primitives import C_STORE

from app.node.process import GATEWAY_FILE, WORKER_FILE, read_runtime_file
from app.node.receive import STORAGE_CLASSES
from app.settings import Settings
from tests.operators import made_files

LIMIT_SECONDS = 180.0  # for a machine that is busy with other things; nothing waits longer than it must
VERIFICATION = "1.2.840.10008.1.1"


def wait_for(what: Callable[[], Any], limit: float = LIMIT_SECONDS) -> Any:
    """The first true answer of `what`; fails after `limit` seconds."""
    until = time.monotonic() + limit
    pause = threading.Event()
    while not (found := what()):
        assert time.monotonic() < until, f"not within {limit} s"
        pause.wait(0.02)
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Pacs:
    """A storage SCP that remembers every object by UID, with a digest of each version it was sent.

    `answers` maps an SOP class to a status; `forward_to`, asked for a port, has everything sent back there
    while the next object may still be on its way.
    """

    def __init__(self, port: int = 0) -> None:
        self.received: dict[str, list[str]] = {}
        self.order: list[Dataset] = []
        self.answers: dict[str, int] = {}
        self.port = port or free_port()
        self.forward_to: Callable[[], int] | None = None
        self.forwarded: list[int | None] = []
        self.classes: tuple[str, ...] = STORAGE_CLASSES
        self.syntaxes: list[str] = list(ALL_TRANSFER_SYNTAXES)
        self._server: Any = None
        self._lock = threading.Lock()

    def start(self) -> Pacs:
        entity = AE("PACS")
        for sop_class in self.classes:
            entity.add_supported_context(sop_class, self.syntaxes)
        self._server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _store(self, event: Any) -> int:
        uid, sop_class = str(event.request.AffectedSOPInstanceUID), str(event.request.AffectedSOPClassUID)
        status = self.answers.get(sop_class, 0)
        if status in (0, 0x0111) or 0xB000 <= status <= 0xBFFF:
            digest = hashlib.sha256(event.encoded_dataset(include_meta=False)).hexdigest()
            data = event.dataset
            data.file_meta = event.file_meta
            with self._lock:
                self.received.setdefault(uid, []).append(digest)
                self.order.append(data)
            if self.forward_to is not None:
                threading.Thread(target=self._forward, args=(data,), daemon=True).start()
        return status

    def _forward(self, data: Dataset) -> None:
        assert self.forward_to is not None
        statuses = send(self.forward_to(), data)
        with self._lock:
            self.forwarded += statuses


class Node:
    """Gateway and worker as the supervisor starts them, but each on its own so that tests can kill them."""

    def __init__(self, folder: Path, pacs: Iterable[Pacs] = (), **sections: dict[str, Any]) -> None:
        self.folder = folder
        self.log_path = folder.parent / f"{folder.name}.log"
        given: dict[str, Any] = {
            "gateway": {"port": 0, "host": "127.0.0.1", "minimum_free_disk_mib": 1},
            "web": {"port": 0},
            "assembly": {"quiet_period_seconds": 0.4, "poll_seconds": 0.05},
            "delivery": {
                "destinations": [
                    {"name": f"pacs{index}", "ae_title": "PACS", "host": "127.0.0.1", "port": one.port}
                    for index, one in enumerate(pacs)
                ],
                "retry_minimum_seconds": 0.2,
                "retry_maximum_seconds": 0.5,
                "network_timeout_seconds": 10,
            },
        }
        for name, values in sections.items():
            given[name] = {**given.get(name, {}), **values}
        self.settings = Settings(state_folder=folder, **given)
        self.tree = Path(__file__).parents[2]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str, crash_at: str | None = None, analyser: str = "tests.node.analyser") -> None:
        for name in names or ("gateway", "worker"):
            environment = {key: value for key, value in os.environ.items() if key != "BUSMAP_CRASH_AT"}
            if crash_at:
                environment["BUSMAP_CRASH_AT"] = crash_at
            with self.log_path.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", f"app.node.{name}", "--supervised", "--analyser", analyser],
                    stdin=subprocess.PIPE,
                    stderr=log,
                    env=environment,
                    cwd=self.tree,
                )
            assert process.stdin is not None
            process.stdin.write(self.settings_line())
            process.stdin.flush()
            self.processes[name] = process

    def settings_line(self) -> bytes:
        """What a process is told of its settings."""
        return self.settings.model_dump_json().encode() + b"\n"

    def complete(self) -> None:
        """Start what does not run."""
        missing = {"gateway", "worker"} - self.processes.keys()
        if missing:
            self.start(*missing)

    def kill(self, *names: str) -> None:
        for name in names:
            self.processes[name].kill()
        self.ended(*names)

    def ended(self, *names: str) -> list[int]:
        """Wait for processes to end, let go of them, and answer how they ended."""
        statuses = []
        for name in names:
            process = self.processes.pop(name)
            statuses.append(process.wait(LIMIT_SECONDS))
            assert process.stdin is not None
            process.stdin.close()
        return statuses

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        self.ended(*list(self.processes))

    def runtime(self, name: str) -> dict[str, Any] | None:
        """The runtime file of the process now running under this name."""
        facts = read_runtime_file(self.folder / (GATEWAY_FILE if name == "gateway" else WORKER_FILE))
        process = self.processes.get(name)
        return facts if facts and process and facts["pid"] == process.pid else None

    @property
    def port(self) -> int:
        return int(wait_for(lambda: self.runtime("gateway"))["port"])

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]

    def events(self) -> list[str]:
        return [line["event"] for line in self.log_lines()]


def ultrasound(name: str, study: str = "study", **more: Any) -> Dataset:
    """A small ultrasound image; the same name is the same image, byte for byte."""
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    return made_files.image(made_files.speckle(seed=seed), name=f"{study}/{name}", study=study, **more)


def report(name: str, study: str = "study", sop_class: str = "1.2.840.10008.5.1.4.1.1.88.33") -> Dataset:
    """An object of somebody else that is no image to analyse."""
    made = ultrasound(name, study)
    made.SOPClassUID, made.Modality = sop_class, "SR"
    for keyword in ("PixelData", "Rows", "Columns"):
        if keyword in made:
            delattr(made, keyword)
    return made


def associate(
    port: int, objects: Iterable[Dataset] = (), called: str = "BUSMAP", calling: str = "SCANNER"
) -> Any:
    entity = AE(calling)
    entity.acse_timeout = entity.network_timeout = 30
    entity.dimse_timeout = 5
    entity.add_requested_context(VERIFICATION)
    for one in objects:
        entity.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
    return entity.associate("127.0.0.1", port, ae_title=called)


def send(port: int, *objects: Dataset) -> list[int | None]:
    """Send over one association; the statuses, None where no answer came."""
    association = associate(port, objects)
    statuses: list[int | None] = []
    for one in objects:
        if not association.is_established:
            statuses.append(None)
            continue
        response = association.send_c_store(one)
        statuses.append(int(response.Status) if "Status" in response else None)
    if association.is_established:
        association.release()
    return statuses


def echo(port: int) -> int | None:
    """The status of a C-ECHO, None where none could be had."""
    association = associate(port)
    if not association.is_established:
        return None
    status = association.send_c_echo()
    association.release()
    return int(status.Status) if "Status" in status else None


def store_request(sop_class: str, sop_instance: str, data_set: bytes) -> Any:
    """A C-STORE request that carries these bytes, whatever they are, or no data set."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class, sop_instance
    request.DataSet = BytesIO(data_set) if data_set else None
    return request


def context_of(association: Any, sop_class: str) -> int:
    return next(one.context_id for one in association.accepted_contexts if one.abstract_syntax == sop_class)


@contextmanager
def held(association: Any) -> Iterator[None]:
    """The library's reactor stands still, and goes on again before anything else is sent.

    One that is let go but has not woken looks held to the library's own senders, and takes their answer.
    """
    association._reactor_checkpoint.clear()
    wait_for(lambda: association._is_paused)
    yield
    association._reactor_checkpoint.set()
    wait_for(lambda: not association._is_paused)


def exchange(association: Any, request: Any) -> Any:
    """Send a request as it is and answer the response; the library's reactor is held meanwhile."""
    with held(association):
        association.dimse.send_msg(request, context_of(association, request.AffectedSOPClassUID))
        _, answer = association.dimse.get_msg(block=True)
    return answer


@dataclass(frozen=True)
class Transmitted:
    """A file as a scanner would transmit it: the bytes of its data set, and what announces them."""

    sop_class: str
    sop_instance: str
    syntax: str
    data_set: bytes


def transmitted(path: Path) -> Transmitted:
    """Take a file apart without reading its data set; bytes that are no DICOM file are all data set."""
    with path.open("rb") as file:
        try:
            read_preamble(file, force=False)
            meta = _read_file_meta_info(file)
        except (InvalidDicomError, EOFError):
            meta = FileMetaDataset()
            file.seek(0)
        return Transmitted(
            str(meta.get("MediaStorageSOPClassUID") or made_files.US),
            str(meta.get("MediaStorageSOPInstanceUID") or uid_of(path)),
            str(meta.get("TransferSyntaxUID") or ExplicitVRLittleEndian),
            file.read(),
        )


def uid_of(path: Path) -> str:
    return made_files.uid(path.name)


def send_bytes(port: int, one: Transmitted) -> int | str | None:
    """Send over an association of its own: the status, "rejected" for the context, None without answer."""
    context = build_context(one.sop_class)
    context._transfer_syntax = [UID(one.syntax)]  # the library would refuse to ask for an unknown one
    entity = AE("SCANNER")
    entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = 30
    association = entity.associate("127.0.0.1", port, contexts=[context], ae_title="BUSMAP")
    if not association.is_established:
        # An association of which no context is left is given up by the library.
        return "rejected" if association.rejected_contexts else None
    answer = exchange(association, store_request(one.sop_class, one.sop_instance, one.data_set))
    association.release()
    return int(answer.Status) if answer is not None else None
