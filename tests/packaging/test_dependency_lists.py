"""The dependency lists: every package by hash, and no address of an index or path of a machine anywhere."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
# What names an index, a mirror or a folder of packages: on a command line, in a file, in the environment.
_OPTION = re.compile(
    r"--(?:extra-)?(?:default-)?index(?:-url)?[ =]+\S|--find-links[ =]+\S|--trusted-host[ =]+\S"
    r"|(?:PIP|UV)_(?:DEFAULT_|EXTRA_)?INDEX(?:_URL)?=\S|^\s*(?:extra-)?index-url\s*=",
    re.MULTILINE,
)
_PUBLIC = {"pypi.org", "files.pythonhosted.org", "deb.debian.org", "registry.npmjs.org", ""}


@cache
def committed() -> dict[str, str]:
    """Text files of the repository by name; of a copy without git, all that is not made by make."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True)
    names = listed.stdout.split("\0")
    if listed.returncode:
        paths = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        made = {"build", "site", "out", "__pycache__"}
        names = [str(one) for one in paths if not made & {*one.parts} and not one.parts[0].startswith(".")]
    found = {}
    for name in filter(None, names):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in data:
            found[name] = data.decode("utf-8", "replace")
    return found


def lists() -> list[str]:
    return sorted(
        name for name in committed() if re.fullmatch(r"(.*/)?(requirements[^/]*|wheels)\.txt", name)
    )


def entries(text: str) -> list[str]:
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def test_there_are_lists() -> None:
    some = {
        "requirements.txt",
        "requirements-train.txt",
        "requirements-uv.txt",
        "packaging/map/gpu/wheels.txt",
    }
    assert some <= set(lists())


def test_make_installs_by_hash() -> None:
    """All but torch, whose builds differ from index to index; nothing of it ships."""
    lines = committed()["Makefile"].splitlines()
    installs = [line for line in lines if re.match(r"\t.*(pip install|UV_INSTALL\))", line)]
    by_name = [line for line in installs if "--require-hashes" not in line and not line.endswith("-e .")]
    assert len(installs) > 8
    assert [line.split()[-1] for line in by_name] == ["torch==2.13.0"]


@pytest.mark.parametrize("name", lists())
def test_every_requirement_is_pinned_and_has_a_hash(name: str) -> None:
    for entry in entries(committed()[name]):
        requirement, *hashes = entry.split(" --hash=")
        pins = [one.operator for one in Requirement(requirement).specifier]
        assert pins == ["=="], entry[:80]
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one.strip()) for one in hashes), requirement


@pytest.mark.parametrize("name", lists())
def test_no_list_holds_an_address_or_a_path(name: str) -> None:
    lines = entries(committed()[name])
    assert not [line for line in lines if re.search(r"https?:|file:|git\+|^-|/", line)]


def test_no_committed_file_names_an_index() -> None:
    own = Path(__file__).relative_to(ROOT).as_posix()
    found = {name: _OPTION.findall(text) for name, text in committed().items() if name != own}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_no_committed_file_names_this_machine() -> None:
    """Neither where the checkout lies, nor the host that packages come from here."""
    # Paths that say nothing of a machine: of one part, and where the guides install busmap.
    places = [
        path for path in (ROOT, Path.home()) if len(path.parts) > 2 and path.parts[1] not in ("opt", "srv")
    ]
    words = {*map(str, places), *_hosts_of_this_machine()}
    found = {(name, word) for name, text in committed().items() for word in words if word in text}
    assert found == set()


def _hosts_of_this_machine() -> set[str]:
    texts = [value for name, value in os.environ.items() if re.match(r"(PIP|UV)_.*(INDEX|LINKS)", name)]
    for path in ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf"):
        config = configparser.ConfigParser(interpolation=None)
        config.read(Path(path).expanduser())
        texts += [value for section in config.values() for value in section.values()]
    hosts = {urlsplit(word).hostname or "" for text in texts for word in text.split() if "://" in word}
    return hosts - _PUBLIC


@pytest.mark.parametrize(
    "text",
    [
        "pip install --index-url https://mirror.example/simple x",
        "UV_INDEX_URL=https://mirror.example",
        "index-url = https://mirror.example",
        "--find-links /srv/wheels",
    ],
)
def test_what_counts_as_naming_an_index(text: str) -> None:
    assert _OPTION.search(text)
