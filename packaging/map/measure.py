"""How long the built image takes: `python packaging/map/measure.py`, after `make map`, as root.

Prints medians with their range: a run of one study of two images, and `serve` until /readyz answers 200.
Cold: the image's files are put out of the page cache before each start, as after a start of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import archive
import layer
import tree

sys.path.append(str(tree.PROJECT))
from app.demo.studies import make_study, read_samples

RUNS = 5


def main() -> None:
    """Measure the image of an archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, default=tree.PROJECT / "build/map/busmap.oci.tar")
    parser.add_argument(
        "--root", type=Path, help="folder to unpack it into; where it is, it is taken as it is"
    )
    flags = parser.parse_args()
    image = archive.read_image(flags.image)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        root = flags.root or folder / "root"
        if not root.exists():
            archive.unpack(image, root)
        (folder / "study").mkdir()
        make_study(read_samples()[0], folder / "study", 1, datetime(2026, 5, 4, 8, 0))
        environment = dict(one.split("=", 1) for one in image.config["config"]["Env"])
        for title, once in (("one study", _one_shot), ("serve to ready", _serve)):
            for cold in (True, False):
                _tell(
                    f"{title}, {'cold' if cold else 'warm'}", _repeat(once, root, folder, environment, cold)
                )


def _repeat(
    once: Callable[[list[str], Path], float],
    root: Path,
    folder: Path,
    environment: dict[str, str],
    cold: bool,
) -> list[float]:
    seconds = []
    for number in range(RUNS):
        written = folder / f"{once.__name__}-{cold}-{number}"
        written.mkdir()
        os.chown(written, 1000, 1000)
        if cold:
            _forget(root)
        seconds.append(once(_container(root, folder / "study", written, environment), written))
    return seconds


def _container(root: Path, study: Path, written: Path, environment: dict[str, str]) -> list[str]:
    variables = {**environment, "BUSMAP_GATEWAY__PORT": "0", "BUSMAP_WEB__PORT": "0"}
    return [
        *("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--no-new-privs"),
        *("bwrap", "--die-with-parent", "--clearenv", "--unshare-user", "--cap-drop", "ALL"),
        *(word for name, value in variables.items() for word in ("--setenv", name, value)),
        *("--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"),  # noqa: S108
        *("--ro-bind", str(study), "/var/holoscan/input", "--bind", str(written), "/var/holoscan/output"),
        *("--bind", str(written), "/var/lib/busmap", "/usr/local/bin/busmap-map"),
    ]


def _one_shot(container: list[str], _: Path) -> float:
    began = time.monotonic()
    subprocess.run(container, check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def _serve(container: list[str], state: Path) -> float:
    began = time.monotonic()
    with subprocess.Popen(
        [*container, "serve"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            while not _ready(state):
                if process.poll() is not None:
                    raise SystemExit(f"serve ended with status {process.returncode}")
                time.sleep(0.05)
            return time.monotonic() - began
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _ready(state: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, KeyError):
        port = json.loads((state / "gateway.json").read_bytes())["web_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    return False


def _forget(root: Path) -> None:
    os.sync()
    for path in _files(root):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _files(root: Path) -> Iterator[Path]:
    return (path for path in layer.entries(root) if path.is_file() and not path.is_symlink())


def _tell(title: str, seconds: Sequence[float]) -> None:
    middle = statistics.median(seconds)
    print(f"{title}: median {middle:.1f} s ({min(seconds):.1f} to {max(seconds):.1f}, n {len(seconds)})")


if __name__ == "__main__":
    main()
