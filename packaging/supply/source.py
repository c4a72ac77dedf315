"""Where an inventory is read from: the arguments that the programs of this folder share."""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from image_archive import unpack_records
from inventory import Component, read_tree, shipped

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Project:
    """The product, from pyproject.toml."""

    name: str
    version: str
    licence: str
    requirements: tuple[str, ...]


def project() -> Project:
    """The product as pyproject.toml has it."""
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return Project(facts["name"], facts["version"], facts["license"], tuple(facts["dependencies"]))


def program_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser that describes the program by the first line of its docstring."""
    return argparse.ArgumentParser(prog=name, description=(doc or "").splitlines()[0])


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """One of --environment, --root and --archive."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument(
        "--environment",
        type=Path,
        help="a virtual environment: what the product requires of it, without tools of tests",
    )
    group.add_argument("--root", type=Path, help="root of an unpacked image: all that is in it")
    group.add_argument("--archive", type=Path, help="an image as an OCI archive: all that is in it")


def read_source(given: argparse.Namespace) -> tuple[Component, ...]:
    """The components that the arguments ask for."""
    if given.environment:
        return shipped(read_tree(given.environment) + read_tree(ROOT / "models"), project().requirements)
    if given.root:
        return read_tree(given.root)
    return read_archive(given.archive)


def read_archive(archive: Path) -> tuple[Component, ...]:
    """The components of an image in an OCI archive."""
    with tempfile.TemporaryDirectory() as folder:
        unpack_records(archive, Path(folder))
        return read_tree(Path(folder))


def fail(message: str) -> int:
    """Say why a program of this folder ends, in one line; answers the exit status."""
    print(message, file=sys.stderr)
    return 1
