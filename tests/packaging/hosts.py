"""How hosts run the container, as far as the kernel goes: bubblewrap in place of an engine.

A `Container` is a root file system and the environment of its image. `run` starts a program in it as hosts
do: by name, as a user id without an entry in /etc/passwd, root read-only, no network, no capabilities, with
what the host mounts. `outside()` is such a root made of this checkout and its environment; the tests of the
built image make one of the unpacked image, and both run the same contracts.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import program

ROOT = Path(__file__).parents[2]
ROOTFS = ROOT / "packaging" / "map" / "rootfs"
USER = 12345
ENTRY_POINT = "busmap-map"
_TOP = (Path("/bin"), Path("/sbin"), *sorted(Path("/").glob("lib*")))
_ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
TEMPORARY = ("--perms", "1777", "--tmpfs", "/tmp")  # before a checkout or an interpreter that lies in /tmp


@dataclass(frozen=True)
class Mount:
    """A folder of the host in the container."""

    source: Path
    target: str
    writable: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """For bubblewrap, which makes missing parents closed to others: they are made before."""
        parents = [str(one) for one in reversed(Path(self.target).parents[:-1])]
        made = tuple(word for parent in parents for word in ("--dir", parent))
        return (*made, "--bind" if self.writable else "--ro-bind", str(self.source), self.target)


@dataclass(frozen=True)
class Container:
    """`root`: arguments of bubblewrap that lay the root, /tmp too; `environment`: the image's ENV."""

    root: tuple[str, ...]
    environment: Mapping[str, str]

    def command(
        self,
        words: Sequence[str],
        mounts: Sequence[Mount] = (),
        environment: Mapping[str, str] | None = None,
        *,
        own_network: bool = True,
    ) -> list[str]:
        """The command that starts `words` in the container; `environment` is the host's, over the image's.

        Its own network has nobody in it; without one it has that of the machine.
        """
        for mount in mounts:
            if mount.writable and os.getuid() == 0:
                os.chown(mount.source, USER, USER)
        variables = {**self.environment, **(environment or {})}
        return [
            _bubblewrap(),
            "--die-with-parent",
            *(["--unshare-net"] if own_network else []),
            "--unshare-ipc",
            "--clearenv",
            *(word for name, value in variables.items() for word in ("--setenv", name, value)),
            *self.root,
            *("--proc", "/proc", "--dev", "/dev"),
            *(word for mount in mounts for word in mount.arguments),
            *("--remount-ro", "/"),
            *_as_nobody(),
            *words,
        ]

    def run(
        self,
        words: Sequence[str],
        mounts: Sequence[Mount] = (),
        environment: Mapping[str, str] | None = None,
        seconds: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Start `words` and wait for their end."""
        return subprocess.run(
            self.command(words, mounts, environment),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


# The image has no program that changes its user, but Python. PR_CAPBSET_DROP is 24 (prctl(2)).
_CHANGE_USER = """import ctypes, os, sys
user = int(sys.argv[1])
for capability in range(64):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@functools.cache
def _bubblewrap() -> str:
    """Where bubblewrap is; the test skips where it is not, or may not make namespaces."""
    found = program("bwrap")
    tried = subprocess.run(
        [found, "--ro-bind", "/", "/", "--unshare-net", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"bubblewrap cannot run here: {tried.stderr.strip()}")
    return found


def _as_nobody() -> tuple[str, ...]:
    """Another user for good: really where we are root, in a user namespace where not."""
    if os.getuid() == 0:
        return ("python3", "-IS", "-c", _CHANGE_USER, str(USER))
    return ("--unshare-user", "--uid", str(USER), "--gid", str(USER), "--cap-drop", "ALL")


def outside(manifests: Path, environment: Mapping[str, str]) -> Container:
    """A root laid out like the image's: this checkout's code and models, this interpreter, the entry point.

    `manifests` becomes /etc/holoscan, `environment` are the variables that the image sets.
    """
    files = [path for path in sorted(ROOTFS.rglob("*")) if path.is_file()]
    mounts = [
        *map(_same_place, _machine()),
        Mount(manifests, "/etc/holoscan"),
        *(Mount(ROOT / name, f"/opt/holoscan/app/{name}") for name in ("app", "operators", "models")),
        Mount(ROOT / "models" / "bundles", "/opt/holoscan/models"),
        Mount(ROOT / "docs", "/opt/holoscan/docs"),
        *(Mount(path, f"/{path.relative_to(ROOTFS)}") for path in files),
    ]
    root = [word for mount in mounts for word in mount.arguments]
    root += ["--dir", "/var/holoscan/input", "--dir", "/var/holoscan/output"]
    path = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin"
    return Container((*TEMPORARY, *_links(), *root), {"PATH": path, **environment})


def _machine() -> Iterator[Path]:
    """Programs and libraries of this machine without its users, and /usr/local/bin open for our own."""
    # CUDA on the machine would hide that the image has to bring its own part of it.
    left_out = {Path("/usr/local"), Path("/usr/local/bin"), *Path("/usr/local").glob("cuda*")}
    for folder in ("/usr", "/usr/local", "/usr/local/bin"):
        yield from (path for path in sorted(Path(folder).iterdir()) if path not in left_out and path.exists())
    yield from (path for path in _TOP if path.exists() and not path.is_symlink())
    yield from (path for path in map(Path, _ETC) if path.exists())
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        if not Path(prefix).is_relative_to("/usr"):
            yield Path(prefix)


def _links() -> Iterator[str]:
    """/bin, /lib and their like, where they lead into /usr."""
    for path in _TOP:
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))


def _same_place(path: Path) -> Mount:
    return Mount(path.resolve(), str(path))
