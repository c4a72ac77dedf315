"""The tools that make an image of a layer: Docker or Podman where one answers, otherwise buildah.

Promises: one recipe for all three (a Containerfile), so they differ in form and not in content; the result
is an archive in OCI form. buildah keeps its storage in a folder of ours, by vfs, without a daemon.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

TOOLS = ("docker", "podman", "buildah")
_DOCKER = 25  # from this version on `docker save` writes OCI form


def choose() -> str:
    """The first tool that answers; a client without its daemon is no engine."""
    for tool in TOOLS:
        if answers(tool):
            return tool
    raise ValueError("no tool builds images here: start Docker or Podman, or apt-get install buildah")


def answers(tool: str) -> bool:
    """Whether a tool is installed and works: Docker and Podman are asked."""
    if shutil.which(tool) is None:
        return False
    asked = [tool, "version" if tool == "buildah" else "info"]
    done = subprocess.run(
        asked, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60
    )
    return done.returncode == 0


def containerfile(
    environment: Mapping[str, str], labels: Mapping[str, str], entry_point: str, working_folder: str
) -> str:
    """The recipe."""
    lines = ["FROM scratch", "ADD layer.tar /"]
    lines += [f"ENV {name}={json.dumps(value)}" for name, value in sorted(environment.items())]
    lines += [f"LABEL {name}={json.dumps(value)}" for name, value in sorted(labels.items())]
    lines += [f"WORKDIR {working_folder}", "USER 1000:1000", "STOPSIGNAL SIGTERM", "EXPOSE 11112 8080"]
    return "\n".join([*lines, f"ENTRYPOINT {json.dumps([entry_point])}", ""])


def build(tool: str, context: Path, name: str, epoch: int, archive: Path) -> None:
    """Build the image of the recipe and layer in `context` and write it to `archive`."""
    archive.unlink(missing_ok=True)
    {"docker": _docker, "podman": _podman, "buildah": _buildah}[tool](context, name, epoch, archive)


def _docker(context: Path, name: str, epoch: int, archive: Path) -> None:
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    if int(version.partition(".")[0]) < _DOCKER:
        raise ValueError(f"Docker {version} saves no OCI form: take {_DOCKER} or newer, Podman or buildah")
    dated = ["--build-arg", f"SOURCE_DATE_EPOCH={epoch}"]
    _run(["docker", "build", "--no-cache", *dated, *_recipe(context), "--tag", name, str(context)])
    _run(["docker", "save", "--output", str(archive), name])


def _podman(context: Path, name: str, epoch: int, archive: Path) -> None:
    command = ["podman", "build", *_flags(epoch), *_recipe(context), "--tag", name, str(context)]
    built = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    # By its own name: another build may give the tag away in between.
    _run(["podman", "push", "--quiet", built, f"oci-archive:{archive}:{name}"])


def _buildah(context: Path, name: str, epoch: int, archive: Path) -> None:
    """Straight into the archive; the storage in between is ours alone and thrown away."""
    storage = context.parent / "storage"
    own = ["--storage-driver", "vfs", "--root", str(storage), "--runroot", str(storage / "run")]
    target = ["--tag", f"oci-archive:{archive}:{name}"]
    try:
        _run(["buildah", *own, "build", *_flags(epoch), *_recipe(context), *target, str(context)])
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _flags(epoch: int) -> list[str]:
    """What buildah and Podman have in common: OCI form, one layer, one date, no runtime."""
    return [
        "--isolation",
        "chroot",
        "--format",
        "oci",
        "--layers=false",
        "--timestamp",
        str(epoch),
        "--quiet",
    ]


def _recipe(context: Path) -> list[str]:
    return ["--file", str(context / "Containerfile")]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
