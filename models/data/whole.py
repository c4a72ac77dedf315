"""Files and folders that appear whole or not at all, whenever the process that writes them is killed.

Promises: what is unfinished lies hidden beside its place under the process's own number, so that several
may write one file and the last counts; after an error nothing is left of it. The standard library is enough.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Another path to write to; what lies there becomes `path` once the block ends without an error.

    Its name ends in ".partial": give a writer that goes by the name's ending the format, or an open file. An
    error of the disk that names no file, as where it is full, names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        if error.filename is None:  # as of a disk that is found to be full by a write
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes."""
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A copy of `folder`, empty if there is none, to change; it takes its place, all at once, at the end.

    One process at a time. Killed between the two renames of the exchange it leaves the old folder hidden:
    `bring_back`, or the next call, undoes that.
    """
    bring_back(folder)
    unfinished = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    if folder.exists():
        shutil.copytree(folder, unfinished)
    else:
        unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if folder.exists():
            folder.rename(_before(folder))
        unfinished.rename(folder)
        shutil.rmtree(_before(folder), ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def bring_back(folder: Path) -> None:
    """Where an exchange was cut short, have `folder` again as it was before."""
    before = _before(folder)
    if before.exists() and not folder.exists():
        before.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def _before(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.before")
