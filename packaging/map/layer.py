"""The root file system as one tar: the same bytes for the same files, whichever tool takes it from there.

Promises: entries sorted by path, one date, owner root but where `OWNERS` says otherwise, no names of users
or machines. Refuses devices and sockets: an image of ours has none.
"""

from __future__ import annotations

import hashlib
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

# User and group that own what is written at run time, and its mode. Group 0: platforms that give a container
# an arbitrary user id give it group 0.
OWNERS = {
    "var/holoscan": (1000, 0, 0o775),
    "var/holoscan/input": (1000, 0, 0o775),
    "var/holoscan/output": (1000, 0, 0o1777),
    "var/lib/busmap": (1000, 0, 0o770),
    "tmp": (0, 0, 0o1777),
    "var/tmp": (0, 0, 0o1777),
}


def write_layer(root: Path, target: Path, epoch: int) -> None:
    """Write everything below `root` to the tar `target`, dated `epoch` seconds after 1970."""
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in entries(root):
            entry = _entry(root, path, epoch)
            if entry.isreg():
                with path.open("rb") as stream:
                    tar.addfile(entry, stream)
            else:
                tar.addfile(entry)


def entries(root: Path) -> Iterator[Path]:
    """Everything below `root`, parents first, sorted by path; links are not followed."""
    for path in sorted(root.iterdir(), key=lambda path: path.name.encode()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from entries(path)


def _entry(root: Path, path: Path, epoch: int) -> tarfile.TarInfo:
    name = path.relative_to(root).as_posix()
    status = path.lstat()
    entry = tarfile.TarInfo(name)
    entry.mtime = epoch
    entry.uid, entry.gid, entry.mode = OWNERS.get(name, (0, 0, stat.S_IMODE(status.st_mode) & 0o755))
    if stat.S_ISDIR(status.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
    elif stat.S_ISREG(status.st_mode):
        entry.size = status.st_size
    else:
        raise ValueError(f"{name} is neither file, folder nor link: an image holds nothing else")
    return entry


def sha256sums(root: Path) -> str:
    """The regular files below `root` in the form of `sha256sum`, sorted by path."""
    lines = []
    for path in entries(root):
        if path.is_file() and not path.is_symlink():
            lines.append(f"{sha256(path)}  {path.relative_to(root).as_posix()}\n")
    return "".join(lines)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
