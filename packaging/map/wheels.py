"""The Python packages of the image: by hash from requirements.txt, unpacked without pip.

Promises: only wheels whose SHA-256 the lock names; no network where all of them lie in the folder of package
files already. What the wheels' own installers would add (bytecode, RECORD, scripts) is not there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from layer import sha256

PYTHON = "3.11"
_GLIBC_MINOR = 36  # Debian 12
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_PIN = re.compile(r"^([a-z0-9.-]+)==([^ ;\\]+)")


@dataclass(frozen=True)
class Pin:
    """A version with the hashes of all its files."""

    name: str
    version: str
    hashes: frozenset[str]

    def line(self) -> str:
        """The pin as pip reads it."""
        return " ".join(
            [f"{self.name}=={self.version}", *(f"--hash=sha256:{one}" for one in sorted(self.hashes))]
        )


def read_pins(lock: Path) -> dict[str, Pin]:
    """The pins of a file that `make lock` wrote."""
    pins: dict[str, Pin] = {}
    for entry in lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if found := _PIN.match(entry):
            hashes = frozenset(one.removeprefix("sha256:") for one in _HASH.findall(entry))
            pins[found[1]] = Pin(found[1], found[2], hashes)
    return pins


def read_names(path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names in the image, and those left out with their reasons (lines that start with a dash)."""
    names, left_out = [], {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("- "):
            name, _, reason = line[2:].partition(" ")
            left_out[name] = reason.strip()
        elif line.strip() and not line.startswith("#"):
            names.append(line.split()[0])
    return tuple(names), left_out


def choose(names: tuple[str, ...], pins: dict[str, Pin]) -> tuple[Pin, ...]:
    """The pins of `names`."""
    if missing := [name for name in names if name not in pins]:
        raise ValueError(f"requirements.txt has no {', '.join(missing)}: run make lock")
    return tuple(pins[name] for name in names)


def fetch(pins: tuple[Pin, ...], folder: Path) -> tuple[Path, ...]:
    """The wheels of `pins` in `folder`, downloaded by pip's configuration where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    if missing := [pin for pin, wheel in _present(pins, folder).items() if wheel is None]:
        _download(missing, folder)
    found = _present(pins, folder)
    if still := [pin.name for pin, wheel in found.items() if wheel is None]:
        raise ValueError(f"{folder} has no wheel for {', '.join(still)}: empty it and build again")
    return tuple(wheel for wheel in found.values() if wheel)


def _download(pins: list[Pin], folder: Path) -> None:
    listed = folder / "wanted.txt"
    listed.write_text("".join(pin.line() + "\n" for pin in pins), encoding="utf-8")
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC_MINOR, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    flags = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--implementation", "cp"]
    flags += ["--python-version", PYTHON, "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    flags += [flag for platform in platforms for flag in ("--platform", platform)]
    flags += ["--dest", str(folder), "--requirement", str(listed)]
    quiet = ["-qq", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "download", *quiet, *flags], check=True)


def _present(pins: Iterable[Pin], folder: Path) -> dict[Pin, Path | None]:
    """The wheel of each pin, by the hash of what lies in `folder`."""
    by_hash = {sha256(path): path for path in sorted(folder.glob("*.whl"))}
    return {pin: next((by_hash[one] for one in sorted(pin.hashes) if one in by_hash), None) for pin in pins}


def install(wheel: Path, site: Path) -> None:
    """Unpack a wheel into `site`, with the links that wheel-axle would make at Python's first start."""
    links: list[str] = []
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            place = placed(entry.filename)
            if entry.is_dir() or place is None:
                continue
            target = site / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))
            target.chmod(0o644)
            if target.name == "symlinks.txt" and target.parent.suffix == ".dist-info":
                links = target.read_text(encoding="utf-8").splitlines()
    if links:
        (site / f"{'-'.join(wheel.name.split('-')[:2])}.pth").unlink()
    for line in links:
        name, to, _ = line.split(",")
        link = site / str(placed(name))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(to)


def placed(name: str) -> PurePosixPath | None:
    """Where below site-packages a wheel's entry goes; None for scripts, headers and data outside it.

    PEP 427: what lies in NAME.data/purelib or platlib belongs to site-packages.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"a wheel names {name}: outside of its folder")
    if not path.parts or not path.parts[0].endswith(".data"):
        return path
    return PurePosixPath(*path.parts[2:]) if path.parts[1:2] in (("purelib",), ("platlib",)) else None
