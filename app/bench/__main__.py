"""`make bench`: the figures of the README, measured on this machine.

Prints each figure with what was measured, how often, and its spread. Times hold for this machine alone;
ratios travel. Accuracy comes from the committed predictions, through the validation suite.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psutil

from app.bench.figures import figure, ratio
from app.bench.receivers import BUSMAP, ORTHANC, Receiver, available, missing, running, version
from app.bench.receiving import COLUMNS, ROWS, images_a_second, make_images
from app.bench.studies import CINE_FRAMES, STUDIES, cold_studies, long_cines, warm_studies
from app.bench.syncs import traced
from app.bootstrap import prepare_process
from app.node.store.database import journal

IMAGES, REPEATS, WARM_UP = 200, 5, 8
_PREDICTIONS = Path(__file__).parents[2] / "validation" / "predictions"
Rates = dict[tuple[str, int], list[float]]


def main() -> int:
    """Measure and print."""
    prepare_process()
    started = time.monotonic()
    print(f"busmap bench. {psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f} at the start")
    print(f"environment: torch installed: {'yes' if find_spec('torch') else 'no'}; NVIDIA: {_nvidia()}")
    with tempfile.TemporaryDirectory(prefix="busmap-bench-") as name:
        if "--receiving" not in sys.argv:
            _studies(Path(name))
        _receiving(Path(name))
    files = [str(path) for path in sorted(_PREDICTIONS.glob("*.parquet"))]
    if files and "--receiving" not in sys.argv:
        print("\nAccuracy, from the committed predictions")
        sys.stdout.flush()
        subprocess.run([sys.executable, "-m", "app.cli", "validate", "predictions", *files], check=True)
    print(f"\nload {psutil.getloadavg()[0]:.1f} at the end, {time.monotonic() - started:.0f} s in all")
    return 0


def _nvidia() -> str:
    spec = find_spec("nvidia")
    folders = (spec.submodule_search_locations or []) if spec else []
    libraries = sorted(path.name for folder in folders for path in Path(folder).rglob("*.so*"))
    return ", ".join(libraries) or "nothing"


def _studies(folder: Path) -> None:
    print("\nStudies of four images ...", flush=True)
    warm, memory = warm_studies(folder)
    print(figure("last image acknowledged to SR in the PACS, closed by command", warm, "s"), flush=True)
    cold = cold_studies(folder)
    print(figure("the same study, one process a study (python -m app)", cold, "s"))
    print(f"ratio of the medians: {ratio(cold, warm):.1f}")
    cine, cine_cpu = long_cines(folder)
    print(figure(f"a cine of {CINE_FRAMES} frames, from file to result in a warm process", cine, "s"))
    print(figure("the same, CPU time of all threads", cine_cpu, "s"))
    for name, used in memory.items():
        sizes = f"{used.resident:.0f} MiB resident, {used.pss:.0f} MiB PSS"
        print(f"memory after {STUDIES} studies, {name}: {sizes}")


def _receiving(folder: Path) -> None:
    size = ROWS * COLUMNS / 1024
    print(
        f"\nReceiving {IMAGES} images of {size:.0f} KiB, TCP_NODELAY everywhere, PDUs of 128 KiB ...",
        flush=True,
    )
    for name in missing():
        print(f"{name} is left out: it is not installed here (make peers installs it)")
    names = available()
    mode, synchronous = journal()
    print(f"{BUSMAP}: file, folder and database before 0x0000 (SQLite {mode}, synchronous {synchronous})")
    if ORTHANC in names:
        print(f"{ORTHANC}: SyncStorageArea as by default; its program sets SQLite WAL, synchronous NORMAL")
    for name in names:
        (folder / f"traced-{name}").mkdir()
        of = "" if name == BUSMAP else f" {version(name)}"
        print(f"{name}{of}, sync calls seen: {traced(name, folder / f'traced-{name}')}", flush=True)
    rates = _measure(names, folder)
    for (name, associations), values in rates.items():
        print(figure(f"{name}, {associations} association{'s'[: associations - 1]}", values, "images/s", 0))
    for associations in (1, 4):
        for other in names[1:]:
            share = ratio(rates[BUSMAP, associations], rates[other, associations])
            pairs = [
                one / two
                for one, two in zip(rates[BUSMAP, associations], rates[other, associations], strict=True)
            ]
            print(
                f"busmap to {other} at {associations}: {share:.2f} of the medians; "
                f"turn by turn median {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
            )


def _measure(names: list[str], folder: Path) -> Rates:
    """Images a second by receiver and number of associations; they take turns with the same images."""
    rates: Rates = {(name, associations): [] for associations in (1, 4) for name in names}
    with contextlib.ExitStack() as stack:
        receivers = {name: stack.enter_context(running(name, folder / name)) for name in names}
        _warm_up(receivers, folder)
        for turn in range(REPEATS):
            for associations in (1, 4):
                images = folder / f"images{turn}{associations}"
                batches = make_images(images, IMAGES, associations)
                for name in names if turn % 2 == 0 else reversed(names):
                    rates[name, associations].append(images_a_second(receivers[name], batches))
                shutil.rmtree(images)
            print(f"turn {turn + 1} of {REPEATS}", file=sys.stderr, flush=True)
    return rates


def _warm_up(receivers: dict[str, Receiver], folder: Path) -> None:
    batches = make_images(folder / "warm-up", WARM_UP, 4)
    for receiver in receivers.values():
        images_a_second(receiver, batches)


if __name__ == "__main__":
    sys.exit(main())
