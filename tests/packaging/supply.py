"""Trees and images made for tests of packaging/supply, whose programs import each other by name."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUPPLY = ROOT / "packaging" / "supply"

_TYPE = "application/vnd.oci.image."
SITE = "usr/local/lib/python3.11/dist-packages"
DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: {}\n"


def distribution(
    root: Path, name: str, version: str = "1.0", *, headers: Sequence[str] = (), texts: Mapping[str, str] = {}
) -> None:
    """Write the records of a Python distribution."""
    info = root / SITE / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers, "", "Prose."]
    (info / "METADATA").write_text("\n".join(lines))
    for file, text in texts.items():
        (info / file).parent.mkdir(exist_ok=True)
        (info / file).write_text(text)


def debian(root: Path, name: str, copyright_text: str | None, *fields: str, version: str = "2.0-1") -> None:
    """Add an installed package of Debian 12."""
    status = root / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"Package: {name}", "Status: install ok installed", f"Version: {version}", "Architecture: amd64"]
    with status.open("a") as file:
        file.write("\n".join([*lines, "Section: libs", *fields, "Description: one", " and more", "", ""]))
    release = root / "usr/lib/os-release"
    release.parent.mkdir(parents=True, exist_ok=True)
    release.write_text('ID=debian\nVERSION_ID="12"\n')
    if copyright_text is not None:
        doc = root / "usr/share/doc" / name
        doc.mkdir(parents=True)
        (doc / "copyright").write_text(copyright_text)


def small_root(folder: Path) -> Path:
    """A root with one Python distribution, one that it requires, and two packages of Debian."""
    distribution(
        folder, "Front.End", headers=["License-Expression: MIT OR GPL-2.0-only", "Requires-Dist: back-end>=1"]
    )
    distribution(folder, "back_end", headers=["Classifier: License :: OSI Approved :: BSD License"])
    debian(folder, "libone", DEP5.format("LGPL-2.1+"), "Depends: libtwo (>= 1), nowhere", "Source: one (2.0)")
    debian(
        folder, "libtwo", "On Debian systems see /usr/share/common-licenses/GPL-2.\n", version="1:3.1~rc1-2"
    )
    return folder


def oci_archive(root: Path, target: Path, *, upper: Mapping[str, bytes] = {}) -> Path:
    """An OCI image of one layer of `root`, and one of `upper` over it."""
    blobs: dict[str, bytes] = {}

    def keep(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    lower = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*"))}
    layers, diffs = [], []
    for content in (lower, upper):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for name, source in content.items():
                if isinstance(source, Path):
                    tar.add(source, name, recursive=False)
                else:
                    entry = tarfile.TarInfo(name)
                    entry.size = len(source)
                    tar.addfile(entry, io.BytesIO(source))
        diffs.append(f"sha256:{hashlib.sha256(stream.getvalue()).hexdigest()}")
        layers.append(
            keep(gzip.compress(stream.getvalue(), mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
        )
    facts = {"architecture": "amd64", "os": "linux", "config": {"Env": [f"TREE={root}"]}}
    facts["rootfs"] = {"type": "layers", "diff_ids": diffs}
    config = keep(json.dumps(facts).encode(), f"{_TYPE}config.v1+json")
    manifest = json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()
    entry = keep(manifest, f"{_TYPE}manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "busmap:test"}
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(target, "w") as tar:
        for name, data in blobs.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of packaging/supply as a person does."""
    return subprocess.run(
        [sys.executable, str(SUPPLY / program), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
