"""The root file system of the image, put together from package files and this project.

Promises: the application below /opt/holoscan/app, models below /opt/holoscan/models, manifests in
/etc/holoscan, nothing in /etc/monai; no code that trains, measures or demonstrates; bytecode of everything,
which Python takes without a look at the sources.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import manifests
from layer import sha256
from removals import link_copies, prune, read_patterns, remove
from wheels import PYTHON, install

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
SITE = f"usr/local/lib/python{PYTHON}/dist-packages"
# What of the project runs in a hospital, and what of that is left out.
CODE = ("app", "operators", "models/__init__.py", "models/runtime")
NOT_SHIPPED = ("app/bench", "app/demo")
PAGES = ("README.md", "LICENSE", "NOTICE", "CHANGELOG.md", "SECURITY.md")
# Bytes of debugging tables that are worth taking out of a library.
_DEBUG_TABLES = 500_000


def add_wheels(wheels: Iterable[Path], root: Path) -> None:
    """Install the wheels, and take out what does not serve here."""
    site = root / SITE
    site.mkdir(parents=True)
    lines = []
    for wheel in wheels:
        install(wheel, site)
        lines.append(f"{wheel.name} sha256:{sha256(wheel)}\n")
    record = root / "opt/holoscan/docs/python-packages.txt"
    record.write_text("".join(lines), encoding="utf-8")
    remove(site, read_patterns(HERE / "removed.txt"))
    link_copies(site)
    _strip(site)


def _strip(site: Path) -> None:
    """Take out debugging tables. Not in the folders of auditwheel (*.libs): strip breaks them."""
    for path in sorted(site.rglob("*.so*")):
        if path.is_symlink() or any(part.endswith(".libs") for part in path.parts):
            continue
        if path.stat().st_size < _DEBUG_TABLES:
            continue
        lean = path.with_name(f"{path.name}.lean")
        subprocess.run(["strip", "--strip-debug", "-o", str(lean), str(path)], check=True)
        if path.stat().st_size - lean.stat().st_size > _DEBUG_TABLES:
            lean.chmod(0o644)
            lean.replace(path)
        else:
            lean.unlink()


def add_project(root: Path, version: str) -> None:
    """Copy application, models, pages, manifests and the files of rootfs/."""
    holoscan = root / "opt/holoscan"
    for part in CODE:
        _copy(PROJECT / part, holoscan / "app" / part)
    for part in NOT_SHIPPED:
        shutil.rmtree(holoscan / "app" / part)
    _copy(PROJECT / "models/bundles", holoscan / "models")
    (holoscan / "app/models/bundles").symlink_to("/opt/holoscan/models")
    for name in PAGES:
        _copy(PROJECT / name, holoscan / "docs" / name)
    for page in sorted((PROJECT / "docs").glob("*.md")):
        _copy(page, holoscan / "docs/docs" / page.name)
    manifests.write_manifests(root / "etc/holoscan", PROJECT)
    _copy(HERE / "rootfs", root)
    _install_metadata(root, version)
    for folder in ("var/holoscan/input", "var/holoscan/output", "var/holoscan/logs", "var/lib/busmap", "tmp"):
        (root / folder).mkdir(parents=True, exist_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder into one that may be there; no bytecode. Modes are ours."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                _copy(path, target / path.relative_to(source))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    data = source.read_bytes()
    if data.startswith(b"#!/usr/bin/env -S python3 "):  # the image's env knows no -S
        data = data.replace(b"/usr/bin/env -S python3", b"/usr/bin/python3", 1)
    target.write_bytes(data)
    target.chmod(0o755 if data.startswith(b"#!") else 0o644)


def _install_metadata(root: Path, version: str) -> None:
    """Name and version for `busmap --version`; the path of the application; the command `busmap`."""
    info = root / SITE / f"busmap-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: busmap\nVersion: {version}\nLicense: Apache-2.0\n", encoding="utf-8"
    )
    (root / SITE / "busmap.pth").write_text("/opt/holoscan/app\n", encoding="utf-8")
    command = root / "usr/local/bin/busmap"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text("#!/usr/bin/python3\nfrom app.cli import main\n\nmain()\n", encoding="utf-8")
    command.chmod(0o755)


def compile_all(root: Path) -> None:
    """Write bytecode, by the image's own Python, the same each time: one process, one hash seed."""
    flags = ["-q", "-f", "-j", "1", "--invalidation-mode", "unchecked-hash"]
    folders = [f"/usr/lib/python{PYTHON}", f"/{SITE}", "/opt/holoscan/app"]
    subprocess.run(
        ["chroot", str(root), "/usr/bin/python3", "-I", "-m", "compileall", *flags, *folders],
        check=True,
        env={"PYTHONHASHSEED": "0", "PATH": "/usr/sbin:/usr/bin"},
    )


def finish(root: Path) -> None:
    """Make what is left the same on every machine: no folder that is empty by accident, no odd mode."""
    prune(root / "usr")
    for folder in ("run", "proc", "sys", "dev", "home", "root", "mnt", "media", "srv", "boot"):
        (root / folder).mkdir(exist_ok=True)
