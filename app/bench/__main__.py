"""`make bench`: the figures of the README, measured on this machine.

Prints each figure with what was measured, how often, and its spread. Times hold for this machine alone;
ratios travel. Accuracy comes from the committed predictions, through the validation suite.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import psutil
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from app.analyse import load, run
from app.application import Job
from app.bootstrap import prepare_process
from app.demo.node import Node, running_node
from app.demo.pacs import Pacs, running_pacs
from app.demo.studies import Sample, make_study, read_samples
from app.node.status import close_study
from app.send import send
from app.settings import Settings
from operators.report.composed import ReportContext

STUDIES, WARM_UP, PROCESSES = 12, 2, 3
CINES, CINE_FRAMES = 3, 300
_PATIENCE_SECONDS = 60.0
_PREDICTIONS = Path(__file__).parents[1] / "validation" / "predictions"


def main() -> int:
    """Measure and print."""
    prepare_process()
    print(f"busmap bench. {psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} at the start")
    print(f"environment: torch installed: {'yes' if find_spec('torch') else 'no'}; NVIDIA: {_nvidia()}")
    with tempfile.TemporaryDirectory(prefix="busmap-bench-") as name:
        folder = Path(name)
        warm, gateway_mib = _warm(folder)
        cold = _cold(folder)
        cine, cine_cpu = _cine(folder)
    _say("study of four images, last image acknowledged to SR in the PACS, closed by command", warm, "s")
    _say("the same study, one process a study (python -m app)", cold, "s")
    print(f"ratio of the medians: {statistics.median(cold) / statistics.median(warm):.1f}")
    _say(f"a cine of {CINE_FRAMES} frames, from file to result in a warm process", cine, "s")
    _say("the same, CPU time of all threads", cine_cpu, "s")
    print(f"gateway, resident memory after {STUDIES} studies: {gateway_mib:.0f} MiB")
    files = [str(path) for path in sorted(_PREDICTIONS.glob("*.parquet"))]
    if files:
        subprocess.run([sys.executable, "-m", "app.cli", "validate", "predictions", *files], check=True)
    return 0


def _say(what: str, values: Sequence[float], unit: str) -> None:
    low, high = min(values), max(values)
    print(
        f"{what}: median {statistics.median(values):.2f} {unit} ({low:.2f} to {high:.2f}, n = {len(values)})"
    )


def _nvidia() -> str:
    spec = find_spec("nvidia")
    folders = (spec.submodule_search_locations or []) if spec else []
    libraries = sorted(path.name for folder in folders for path in Path(folder).rglob("*.so*"))
    return ", ".join(libraries) or "nothing"


def _four_images() -> Sample:
    """The two cases of two views each, as one study of four images."""
    first, second, *_ = read_samples()
    return replace(first, name="four images", files=(*first.files, *second.files))


def _warm(folder: Path) -> tuple[list[float], float]:
    """Seconds of each study in a running node, and the gateway's memory (MiB) at the end."""
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
        memory = psutil.Process(node.gateway_pid).memory_info().rss / 2**20
    return seconds, memory


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


def _cold(folder: Path) -> list[float]:
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


def _cine(folder: Path) -> tuple[list[float], list[float]]:
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


if __name__ == "__main__":
    sys.exit(main())
