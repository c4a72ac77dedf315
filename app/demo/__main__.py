"""`python -m app.demo`: six studies in by C-STORE, reports out to a small PACS, a table at the end.

Promises: sets up, shows progress, stops everything it started, leaves nothing but one folder under the
temporary folder, and exits 0 only if every study's result reached the PACS.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image
from pydicom import dcmread
from rich.console import Console
from rich.table import Table

from app.demo.node import Node, running_node
from app.demo.pacs import Pacs, running_pacs
from app.demo.studies import SampleStudy, make_study, read_samples
from app.errors import BusmapError
from app.send import send

QUIET_PERIOD_SECONDS = 0.5
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Arrival:
    """What the PACS got of one study: its objects, and seconds from last image to last result."""

    objects: tuple[Path, ...]
    seconds: float


def main() -> int:
    """Run the demo; the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="busmap-demo-"))
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        done = _demo(folder, console)
    except BusmapError as error:
        console.print(f"busmap: {error.code}: {error}", style="bold")
        console.print(f"What was written until then lies in {folder}", soft_wrap=True)
        return error.exit_status
    if not done:
        console.print(f"Not every study came back; logs lie in {folder}", soft_wrap=True)
        return 1
    for name in ("node", "pacs", "sent"):
        shutil.rmtree(folder / name)
    return 0


def _demo(folder: Path, console: Console) -> bool:
    (folder / "sent").mkdir()
    console.print("busmap demo. Research use. Not a cleared device. Everything stays on this machine.")
    at = datetime.now()
    studies = [
        make_study(sample, folder / "sent", number, at) for number, sample in enumerate(read_samples(), 1)
    ]
    with console.status("starting a small PACS (qrscp)") as status, running_pacs(folder / "pacs") as pacs:
        status.update("starting gateway and worker, loading the models")
        with running_node(folder / "node", pacs, QUIET_PERIOD_SECONDS) as node:
            arrivals, sent = [], time.monotonic()
            for number, study in enumerate(studies, start=1):
                status.update(f"study {number} of {len(studies)}: {study.sample.name}")
                send(study.paths, "127.0.0.1", node.port, node.ae_title)
                sent = time.monotonic()
                arrivals.append(_wait(study, node, pacs, sent))
            status.update("collecting pictures")
            rows = [
                _collect(study, arrival, node, folder)
                for study, arrival in zip(studies, arrivals, strict=True)
            ]
    console.print(_table(rows))
    console.print("Seconds are from the last image acknowledged to the last result in the PACS, with a quiet")
    console.print(f"period of {QUIET_PERIOD_SECONDS} s in them (60 s by default). Pictures and reports:")
    for path in sorted(folder.glob("*.*")):
        console.print(f"  {path}", soft_wrap=True)
    return all(row["objects"] for row in rows)


def _wait(study: SampleStudy, node: Node, pacs: Pacs, sent: float) -> Arrival:
    """Until all objects of the study's result lie in the PACS."""
    while time.monotonic() - sent < _PATIENCE_SECONDS:
        node.check_alive()
        result = node.result(study.study_instance_uid)
        if result is not None:
            wanted = {one["sop_instance_uid"] for one in result["objects"]}
            there = [path for path in pacs.stored() if path.name in wanted or path.stem in wanted]
            if len(there) == len(wanted):
                return Arrival(tuple(there), time.monotonic() - sent)
        time.sleep(0.02)
    return Arrival((), time.monotonic() - sent)


def _collect(study: SampleStudy, arrival: Arrival, node: Node, folder: Path) -> dict[str, Any]:
    """Captures as PNG and the report as HTML beside each other, and the row of the table."""
    name = study.sample.name.replace(",", "").replace(" ", "-")
    kinds = []
    for path in sorted(arrival.objects):
        dataset = dcmread(path)
        kinds.append(str(dataset.Modality))
        if "PixelData" in dataset:
            target = folder / f"{name}-{dataset.InstanceNumber}.png"
            Image.fromarray(dataset.pixel_array).save(target)
    result = node.result(study.study_instance_uid) or {}
    page = node.page(study.study_instance_uid)
    if page is not None:
        shutil.copyfile(page, folder / f"{name}.html")
    return {
        "study": study.sample.name,
        "truth": study.sample.truth,
        "found": _found(result),
        "objects": ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds), reverse=True)),
        "engine": ", ".join(
            sorted({f"{one['engine']} {one['precision']}" for one in result.get("models", [])})
        ),
        "seconds": f"{arrival.seconds:.1f}",
    }


def _found(result: dict[str, Any]) -> str:
    if not result:
        return "no result in time"
    lines = []
    for lesion in result["lesions"]:
        size = f", {lesion['long_axis_mm']} x {lesion['short_axis_mm']} mm" if lesion["long_axis_mm"] else ""
        low, high = (round(100 * lesion[f"probability_{end}"]) for end in ("low", "high"))
        lines.append(
            f"L{lesion['number']} on {len({view['sop_instance_uid'] for view in lesion['views']})} image(s): "
            f"{100 * lesion['probability']:.0f}% ({low} to {high}), category {lesion['category_text']}{size}"
        )
    if not lines:
        reasons = sorted({one["reason"] for one in result["set_aside"]})
        lines = [result["headline"] + (f" Set aside: {', '.join(reasons)}" if reasons else "")]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("study", "truth", "found (probability of malignancy)", "objects", "engine", "seconds")
    for row in rows:
        table.add_row(*(row[key] for key in ("study", "truth", "found", "objects", "engine", "seconds")))
    return table


if __name__ == "__main__":
    sys.exit(main())
