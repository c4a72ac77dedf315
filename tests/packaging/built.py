"""The image built here, unpacked, and run as hosts run it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archive

from tests.packaging.hosts import ROOT, TEMPORARY, Container

BUILDER = ROOT / "packaging" / "map" / "build.py"


@dataclass(frozen=True)
class Built:
    """`folder`: what the builder wrote; `root`: the image unpacked; `config`: its configuration."""

    folder: Path
    root: Path
    config: dict[str, Any]
    digest: str
    listing: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the image sets."""
        return dict(one.split("=", 1) for one in self.config["config"]["Env"])

    @property
    def container(self) -> Container:
        """The unpacked image as a container's root; missing mount points are made in it, as engines do."""
        return Container(("--bind", str(self.root), "/", *TEMPORARY), self.environment)


def build(folder: Path, *flags: str) -> archive.Image:
    """Build into `folder`, with package files fetched once for all builds of this checkout."""
    done = subprocess.run(
        [sys.executable, str(BUILDER), "--output", str(folder), "--name", "busmap-under-test", *flags],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return archive.read_image(folder / "busmap.oci.tar")


def unpacked(image: archive.Image, folder: Path, root: Path) -> Built:
    """Unpack into `root` an image that was built into `folder`."""
    archive.unpack(image, root)
    return Built(folder, root, image.config, image.digest, archive.listing(image))
