"""Build the container image of busmap, a MONAI Application Package: `python packaging/map/build.py`.

Promises: an archive in OCI form, with a list of its files and the size of each part beside it; two builds
from the same package files and commit by one tool have one digest. Needs root on Linux (debootstrap, chroot).
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import archive
import debian
import engine
import loadable
import manifests
import sizes
import tree
import wheels
from layer import sha256sums, write_layer
from removals import clear

# What a shell would set, beside the variables of the specification.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
_NEEDED = ("debootstrap", "dpkg-deb", "strip", "chroot", "tar", "ldconfig")


def main() -> int:
    """Parse the flags and build; an error on purpose is one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tool", choices=("auto", *engine.TOOLS), default="auto", help="what assembles the image"
    )
    parser.add_argument(
        "--output", type=Path, default=tree.PROJECT / "build/map", help="folder of the results"
    )
    parser.add_argument(
        "--packages", type=Path, default=tree.PROJECT / "build/packages", help="folder of package files, kept"
    )
    parser.add_argument("--name", help="name and tag of the image; busmap and its version without it")
    flags = parser.parse_args()
    try:
        _check_machine()
        tool = engine.choose() if flags.tool == "auto" else flags.tool
        build(tool, flags.output.resolve(), flags.packages.resolve(), flags.name)
    except (ValueError, OSError) as error:
        print(f"make map: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(
            f"make map: {error.cmd[0]} failed with status {error.returncode}; it said why above",
            file=sys.stderr,
        )
        return 1
    return 0


def _check_machine() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ValueError("the image is built on Linux of x86_64")
    if os.getuid() != 0:
        raise ValueError("debootstrap and chroot need root: run it by sudo")
    if missing := [program for program in _NEEDED if shutil.which(program) is None]:
        raise ValueError(f"not installed: {', '.join(missing)} (apt-get install debootstrap dpkg binutils)")


def build(tool: str, output: Path, packages: Path, name: str | None = None) -> None:
    """Build the image into the folder `output` from the package files in `packages`."""
    version = tomllib.loads((tree.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    epoch = _epoch()
    output.mkdir(parents=True, exist_ok=True)
    root = _root_file_system(clear(output / "root"), packages, version)
    _say("writing the layer")
    context = clear(output / "context")
    (output / "files.sha256").write_text(sha256sums(root), encoding="utf-8")
    counted = sizes.sizes(root)
    (output / "sizes.md").write_text(sizes.table(counted), encoding="utf-8")
    write_layer(root, context / "layer.tar", epoch)
    (context / "Containerfile").write_text(
        engine.containerfile(
            {**_ENVIRONMENT, **manifests.ENVIRONMENT}, _labels(version), manifests.ENTRY_POINT, manifests.WORK
        ),
        encoding="utf-8",
    )
    _say(f"assembling by {tool}")
    target = output / "busmap.oci.tar"
    name = name or f"busmap:{version}"
    engine.build(tool, context, name, epoch, target)
    (context / "layer.tar").unlink()
    if tool != "docker":  # its own archives name the image in every form that it reads
        loadable.make_loadable(target, name)
    image = archive.read_image(target)
    (output / "digest").write_text(image.digest + "\n", encoding="utf-8")
    print(sizes.table(counted))
    print(f"{target}: {name} {image.digest}")


def _root_file_system(root: Path, packages: Path, version: str) -> Path:
    _say("fetching package files that are not there yet")
    debs = debian.fetch(debian.read_names(tree.HERE / "debian-packages.txt"), packages / "debian")
    names, _ = wheels.read_names(tree.HERE / "python-packages.txt")
    pins = wheels.choose(names, wheels.read_pins(tree.PROJECT / "requirements.txt"))
    files = wheels.fetch(pins, packages / "python")
    _say(f"unpacking {len(debs)} packages of Debian and {len(files)} of Python")
    debian.unpack(debs, root)
    debian.slim(root)
    debian.record(debs, root)
    tree.add_wheels(files, root)
    tree.add_project(root, version)
    _say("compiling")
    tree.compile_all(root)
    tree.finish(root)
    return root


def _labels(version: str) -> dict[str, str]:
    """Labels that the MAP specification requires, and those that registries show."""
    return {
        "org.opencontainers.image.title": "busmap",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.description": "Breast ultrasound AI node. Research use only.",
        "org.opencontainers.image.licenses": "Apache-2.0",
    }


def _epoch() -> int:
    """The date of all files: SOURCE_DATE_EPOCH, or that of the commit."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    found = subprocess.run(
        ["git", "-C", str(tree.PROJECT), "log", "-1", "--format=%ct"],
        check=False,
        capture_output=True,
        text=True,
    )
    if found.returncode != 0:
        raise ValueError("this is no git checkout: set SOURCE_DATE_EPOCH to the date of all files")
    return int(found.stdout)


def _say(progress: str) -> None:
    print(f"make map: {progress}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
