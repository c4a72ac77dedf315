"""Take from this process what a systemd unit takes from its service, then become it.

`python confine.py FACTS COMMAND...` is run by tests in a sandbox, as the service's user, where no systemd is
in charge. FACTS is a JSON file: `calls` (names of allowed system calls), `families` (numbers of allowed
address families), `no_writable_code`, `limits` (resource limits), `umask`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import sys
from pathlib import Path
from typing import Any

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO
_EQUAL, _MASKED = 4, 7  # SCMP_CMP_EQ, SCMP_CMP_MASKED_EQ
_FAMILIES = 46  # AF_MAX
_SHM_EXEC = 0o100000


class _Comparison(ctypes.Structure):
    """scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class _Filter:
    """One seccomp filter; several add up, as those that systemd loads."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, call: str, *where: _Comparison) -> None:
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # no call of this machine
        array = (_Comparison * max(1, len(where)))(*where)
        done = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(where), array
        )
        assert done == 0, (call, done)

    def load(self) -> None:
        assert self._library.seccomp_load(self._context) == 0


def _only_calls(names: list[str]) -> None:
    allowed = _Filter(_ERRNO | errno.EPERM)
    for name in names:
        allowed.rule(_ALLOW, name)
    allowed.load()


def _only_families(numbers: list[int]) -> None:
    families = _Filter(_ALLOW)
    for number in set(range(_FAMILIES)) - set(numbers):
        families.rule(_ERRNO | errno.EAFNOSUPPORT, "socket", _Comparison(0, _EQUAL, number, 0))
    families.load()


def _no_writable_code() -> None:
    """As MemoryDenyWriteExecute=: no page that is writable and executable, none made executable later."""
    code, both = mmap.PROT_EXEC, mmap.PROT_EXEC | mmap.PROT_WRITE
    memory = _Filter(_ALLOW)
    memory.rule(_ERRNO | errno.EPERM, "mmap", _Comparison(2, _MASKED, both, both))
    for call in ("mprotect", "pkey_mprotect"):
        memory.rule(_ERRNO | errno.EPERM, call, _Comparison(2, _MASKED, code, code))
    memory.rule(_ERRNO | errno.EPERM, "shmat", _Comparison(2, _MASKED, _SHM_EXEC, _SHM_EXEC))
    memory.load()


def main(path: str, command: list[str]) -> None:
    facts: dict[str, Any] = json.loads(Path(path).read_text())
    os.umask(int(facts["umask"], 8))
    for name, limit in facts["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    _only_families(facts["families"])
    if facts["no_writable_code"]:
        _no_writable_code()
    _only_calls(facts["calls"])
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
