"""An image in an archive of OCI form, read without an engine.

Promises: every blob is compared with its digest before it is believed; layers are unpacked only below their
target.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True)
class Image:
    """What an archive holds: the digest of its manifest, its configuration, its layers as tar files."""

    digest: str
    config: dict[str, Any]
    layers: tuple[bytes, ...]


def read_image(archive: Path) -> Image:
    """Read the one image of an archive.

    Raises
    ------
    ValueError
        A blob is missing, or its bytes are not those of its digest.
    """
    with tarfile.open(archive) as tar:
        index = read_json(tar, "index.json")
        if len(index["manifests"]) != 1:
            raise ValueError(f"{archive.name} holds {len(index['manifests'])} images: one is expected")
        digest = index["manifests"][0]["digest"]
        manifest = json.loads(_blob(tar, digest))
        config = json.loads(_blob(tar, manifest["config"]["digest"]))
        layers = tuple(_unzipped(_blob(tar, layer["digest"])) for layer in manifest["layers"])
    return Image(digest, config, layers)


def read_json(tar: tarfile.TarFile, name: str) -> Any:
    """The content of a member that is JSON.

    Raises
    ------
    ValueError
        There is none of that name.
    """
    return json.load(_member(tar, name))


def blob_path(digest: str) -> str:
    """Where an archive keeps what has this digest ("sha256:…")."""
    return "blobs/" + digest.replace(":", "/")


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    try:
        stream = tar.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise ValueError(f"the archive has no {name}: it is not in OCI form, or was cut off")
    return stream


def _blob(tar: tarfile.TarFile, digest: str) -> bytes:
    data = _member(tar, blob_path(digest)).read()
    if digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
        raise ValueError(f"the blob {digest} of the archive is damaged")
    return data


def _unzipped(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def unpack(image: Image, target: Path) -> None:
    """Unpack the layers into `target`, which is made. Owners are kept where the process is root."""
    target.mkdir(parents=True)
    for layer in image.layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            tar.extractall(target, filter=_kept)  # noqa: S202 - the filter refuses what leads outside


def _kept(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    """The filter `tar` without its change of absolute links and modes: a root file system has such links."""
    if (
        member.name.startswith("/")
        or ".." in Path(member.name).parts
        or not (member.isreg() or member.isdir() or member.issym() or member.islnk())
    ):
        raise ValueError(f"the image holds {member.name}, which is no file below its root")
    return member


def listing(image: Image) -> str:
    """Every entry of the root file system: mode, owner, SHA-256 or link, path; sorted by path."""
    lines: dict[str, str] = {}
    for layer in image.layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            for member in tar:
                name = member.name.removeprefix("./").strip("/")
                lines[name] = f"{member.mode:o} {member.uid}:{member.gid} {_content(tar, member)} {name}\n"
    return "".join(line for name, line in sorted(lines.items()) if name)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.isreg():
        return hashlib.file_digest(tar.extractfile(member), "sha256").hexdigest()  # type: ignore[arg-type]
    return f"-> {member.linkname}" if member.issym() or member.islnk() else "folder"
