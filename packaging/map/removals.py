"""What is taken out of installed packages: patterns with their reasons, from `removed.txt`.

Promises: a pattern that matches nothing is an error, so the list stays true.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from layer import sha256


def read_patterns(path: Path) -> dict[str, str]:
    """Pattern to reason; a line without a reason is an error."""
    patterns = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, _, reason = line.partition(" ")
            if not reason.strip():
                raise ValueError(f"{path.name}: {pattern} has no reason")
            patterns[pattern] = reason.strip()
    return patterns


def matcher(pattern: str) -> re.Pattern[str]:
    """A regular expression for `pattern`: `*` does not cross a slash, `**` does, `**/` may be nothing."""
    parts = re.split(r"(\*\*/|\*\*|\*)", pattern)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts))


def remove(folder: Path, patterns: dict[str, str]) -> int:
    """Remove the files that a pattern matches, and what is empty then; answers the bytes saved."""
    matchers = {pattern: matcher(pattern) for pattern in patterns}
    unused, saved = set(patterns), 0
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        matched = {pattern for pattern, one in matchers.items() if one.fullmatch(name)}
        if matched:
            unused -= matched
            saved += path.lstat().st_size
            path.unlink()
    if unused:
        raise ValueError(f"removed.txt: nothing matches {', '.join(sorted(unused))}")
    prune(folder)
    return saved


def prune(folder: Path) -> None:
    """Remove links to nowhere and empty folders below `folder`."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink():
            if not path.exists():
                path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def link_copies(folder: Path) -> int:
    """Make libraries that lie in one folder several times over links to one; answers the bytes saved.

    Wheels hold no links, so a library often comes once a version name.
    """
    first: dict[tuple[Path, str], Path] = {}
    saved = 0
    for path in sorted(folder.rglob("*.so*"), key=lambda path: (-len(path.name), path)):
        if path.is_symlink() or not path.is_file():
            continue
        original = first.setdefault((path.parent, sha256(path)), path)
        if original is not path:
            saved += path.stat().st_size
            path.unlink()
            path.symlink_to(original.name)
    return saved


def clear(folder: Path) -> Path:
    """An empty folder of this name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
