"""The sandbox of a systemd unit without a systemd in charge: unshare, bubblewrap, setpriv and seccomp.

What the unit says is read from it and applied: file system, user, capabilities, system calls, address
families, /proc, limits. Left to systemd: cgroups (MemoryMax, TasksMax as such), RestrictNamespaces,
RestrictRealtime, RestrictSUIDSGID, LockPersonality, PrivateUsers.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.hosts import ROOT, Mount
from tests.programs import program

USER = 64111
_HERE, _FACTS = Path(__file__).parent, "/tmp/facts.json"
_LIMITS = {"LimitNOFILE": "RLIMIT_NOFILE", "LimitCORE": "RLIMIT_CORE", "TasksMax": "RLIMIT_NPROC"}
_UNSHARED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c")
# Folders of the service's own: its /tmp, nobody's home, and two in which settings and state get a place.
_OWN = ("/tmp", "/var/tmp", "/home", "/root", "/run/user", "/etc", "/var/lib")
_ETC = [
    f"/etc/{name}" for name in ("ld.so.cache", "alternatives", "localtime", "hosts", "nsswitch.conf", "fonts")
]


class Unit:
    """A service unit: its keys in [Service], those that may repeat joined by blanks."""

    def __init__(self, path: Path) -> None:
        self.values: dict[str, str] = {}
        for line in path.read_text().splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                self.values[key] = f"{self.values[key]} {value}" if self.values.get(key) else value

    def __getitem__(self, key: str) -> str:
        return self.values[key]

    @property
    def command(self) -> list[str]:
        """ExecStart with the environment of these tests in the place of /opt/busmap."""
        first, *rest = shlex.split(self["ExecStart"])
        return [str(Path(sys.executable).parent / Path(first).name), *rest]

    @property
    def calls(self) -> list[str]:
        """The system calls that SystemCallFilter leaves."""
        allowed: set[str] = set()
        add = True
        for word in self["SystemCallFilter"].split():
            name = word.removeprefix("~")
            # A line that starts with ~ takes away; the sets after it on that line too.
            add = not word.startswith("~") if name != word else add
            calls = _set(name)
            allowed = allowed | calls if add else allowed - calls
        return sorted(allowed | _set("@default"))

    def facts(self) -> dict[str, object]:
        """What confine.py applies."""
        return {
            "calls": self.calls,
            "families": [getattr(socket, name) for name in self["RestrictAddressFamilies"].split()],
            "no_writable_code": self["MemoryDenyWriteExecute"] == "yes",
            "limits": {_LIMITS[key]: int(self[key]) for key in _LIMITS},
            "umask": self["UMask"],
        }


def _set(name: str) -> set[str]:
    """A system call, or the calls of one of systemd's sets."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(
        [program("systemd-analyze"), "syscall-filter", "--no-pager", name],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found: set[str] = set()
    for line in text.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            found |= _set(word)
    return found


def confined(unit: Unit, folder: Path, files: dict[str, Path], command: list[str]) -> list[str]:
    """The command that runs `command` as the unit would.

    Parameters
    ----------
    folder : for what the sandbox itself needs.
    files : what is at which path of the service: its settings (read-only) and its state folder.
    """
    if os.getuid() != 0:
        pytest.skip("taking rights away as systemd does needs root")
    for name in ("unshare", "setpriv", "bwrap"):
        program(name)
    folder.mkdir()
    (folder / "proc").mkdir()
    mount = f"mount -t proc -o subset=pid,hidepid=invisible proc {shlex.quote(str(folder / 'proc'))}"
    _require(mount)
    facts = folder / "facts.json"
    facts.write_text(json.dumps(unit.facts()))
    code = [
        Mount(Path(path), path) for path in sorted({str(ROOT), sys.prefix, sys.base_prefix}) if _hidden(path)
    ]
    mounts = [
        *code,
        Mount(facts, _FACTS),
        *(Mount(path, at, writable=path.is_dir()) for at, path in files.items()),
    ]
    inner = [
        "bwrap",
        *("--ro-bind", "/", "/", "--dev", "/dev"),
        *(word for at in _OWN for word in ("--perms", "1777" if "tmp" in at else "0755", "--tmpfs", at)),
        *(word for path in _ETC for word in ("--ro-bind-try", path, path)),
        *(word for mount in mounts for word in mount.arguments),
        *("--remount-ro", "/etc", "--remount-ro", "/var/lib"),
        *("--ro-bind", str(folder / "proc"), "/proc", "--unshare-ipc", "--chdir", "/"),
        *("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"),
        *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
        *(sys.executable, str(_HERE / "confine.py"), _FACTS, *command),
    ]
    script = f"{mount} && exec {shlex.join(inner)}"
    return [*_UNSHARED, script]


def _require(mount: str) -> None:
    """Skip where root itself may not make namespaces or mount, as in a container without capabilities."""
    tried = subprocess.run([*_UNSHARED, mount], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no sandbox can be made here: {tried.stderr.strip()}")


def _hidden(path: str) -> bool:
    """Whether a folder of the service's own lies over it."""
    return any(Path(path).is_relative_to(own) for own in _OWN)
