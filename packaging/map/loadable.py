"""An archive in OCI form made such that Docker loads it, too.

Docker that keeps images by a storage driver (the default up to 28) reads `manifest.json` alone and answers an
archive without it with "blobs/json: no such file or directory"; where it keeps them by containerd it takes
the name from an annotation. Promises: image, digest and blobs stay as they are; the same archive gives
the same bytes.

Sources: Docker image specification 1.2, "Combined image JSON + filesystem changeset format"; containerd,
images/annotations.go.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from archive import blob_path, read_json

_NAME = "io.containerd.image.name"


def make_loadable(archive: Path, name: str) -> None:
    """Give the one image of `archive` the `name` ("busmap:0.2.0") by which Docker and Podman load it."""
    local, full = _names(name)
    with tarfile.open(archive) as tar:
        index = read_json(tar, "index.json")
        [entry] = index["manifests"]
        manifest = read_json(tar, blob_path(entry["digest"]))
        entry["annotations"] = {**entry.get("annotations", {}), _NAME: full}
        listed = {
            "Config": blob_path(manifest["config"]["digest"]),
            "RepoTags": [local],
            "Layers": [blob_path(layer["digest"]) for layer in manifest["layers"]],
        }
        written = archive.with_name(f"{archive.name}.part")
        with tarfile.open(written, "w", format=tarfile.GNU_FORMAT) as target:
            for member in sorted(tar, key=lambda member: member.name):
                if member.name not in ("index.json", "manifest.json"):
                    target.addfile(member, tar.extractfile(member) if member.isreg() else None)
            _add(target, "index.json", index)
            _add(target, "manifest.json", [listed])
    written.replace(archive)


def _names(name: str) -> tuple[str, str]:
    """The name with its tag, and the same with the registry and folder that engines put before a bare one."""
    folder, _, last = name.rpartition("/")
    tagged = name if ":" in last else f"{name}:latest"
    return tagged, tagged if folder else f"docker.io/library/{tagged}"


def _add(tar: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content, separators=(",", ":")).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
