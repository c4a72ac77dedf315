"""A study through a warm node, the same by a process a study, and the memory of the node's processes."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import psutil
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from app.analyse import load, run
from app.application import Job
from app.demo.node import Node, running_node
from app.demo.pacs import Pacs, running_pacs
from app.demo.studies import Sample, make_study, read_samples
from app.node.process import GATEWAY_FILE, WORKER_FILE, read_runtime_file
from app.node.status import close_study
from app.send import send
from app.settings import Settings
from operators.report.composed import ReportContext

STUDIES, WARM_UP, PROCESSES = 12, 2, 3
CINES, CINE_FRAMES = 3, 300
_PATIENCE_SECONDS = 60.0
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Memory:
    """Of a process and its children, MiB. `pss` counts shared pages in parts."""

    resident: float
    pss: float


def _four_images() -> Sample:
    """The two cases of two views each, as one study of four images."""
    first, second, *_ = read_samples()
    return replace(first, name="four images", files=(*first.files, *second.files))


def warm_studies(folder: Path) -> tuple[list[float], dict[str, Memory]]:
    """Seconds of each study in a running node, and the memory of its processes at the end."""
    seconds = []
    with running_pacs(folder / "pacs") as pacs, running_node(folder / "node", pacs, 3600) as node:
        settings = Settings(state_folder=node.state)
        for number in range(STUDIES):
            study_folder = folder / f"study{number}"
            study_folder.mkdir()
            study = make_study(_four_images(), study_folder, number, datetime.now())
            send(study.paths, "127.0.0.1", node.port, node.ae_title)
            started = time.monotonic()
            close_study(settings, study.study_instance_uid)
            _wait_for_report(node, pacs, study.study_instance_uid)
            if number >= WARM_UP:
                seconds.append(time.monotonic() - started)
        memory = {
            "gateway": _memory(node, GATEWAY_FILE),
            "worker with its analysis child": _memory(node, WORKER_FILE),
        }
    return seconds, memory


def cold_studies(folder: Path) -> list[float]:
    """Seconds of a whole process for each study."""
    source = folder / "cold"
    source.mkdir()
    make_study(_four_images(), source, 1, datetime.now())
    seconds = []
    for number in range(PROCESSES):
        started = time.monotonic()
        command = [sys.executable, "-m", "app", "-i", str(source), "-o", str(folder / f"out{number}")]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        seconds.append(time.monotonic() - started)
    return seconds


def long_cines(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds and CPU seconds of a study that is one long cine, models loaded."""
    settings = Settings()
    models = load(settings)
    (sample,) = (one for one in read_samples() if one.kind == "cine")
    paths = make_study(sample, folder, 1, datetime.now(), cine_frames=CINE_FRAMES).paths
    seconds, used = [], []
    for number in range(CINES):
        job = Job(paths, folder / f"cine{number}", ReportContext(datetime.now().astimezone()))
        started, cpu = time.monotonic(), time.process_time()
        run(job, engines=models, settings=settings)
        seconds.append(time.monotonic() - started)
        used.append(time.process_time() - cpu)
    return seconds, used


def _memory(node: Node, runtime_file: str) -> Memory:
    facts = read_runtime_file(node.state / runtime_file)
    if facts is None:
        raise SystemExit("a process of the node has ended: see make demo")
    process = psutil.Process(int(facts["pid"]))
    counted = [one.memory_full_info() for one in (process, *process.children(recursive=True))]
    return Memory(sum(one.rss for one in counted) / _MIB, sum(one.pss for one in counted) / _MIB)


def _wait_for_report(node: Node, pacs: Pacs, study_instance_uid: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        result = node.result(study_instance_uid)
        if result is not None:
            report = result["objects"][0]["sop_instance_uid"]
            if any(report in (path.name, path.stem) and _whole(path) for path in pacs.stored()):
                return
        node.check_alive()
        time.sleep(0.005)
    raise SystemExit("no report in the PACS within a minute: see make demo")


def _whole(path: Path) -> bool:
    """Whether the PACS has finished writing a file."""
    try:
        return str(dcmread(path).Modality) == "SR"
    except (InvalidDicomError, EOFError, AttributeError):
        return False
