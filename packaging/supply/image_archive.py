"""An OCI image in an archive: what it is called by digest, and the records in it, without unpacking it all.

Promises: digests of index, manifest, configuration and layers are compared on the way; needs neither root
nor an engine; writes nothing outside the folder it is given. Refuses what is no OCI archive (`oci-archive:`
of buildah, podman and skopeo), and names that lead out of the root.

Source: OCI image specification 1.1 (image layout, manifest, layer whiteouts).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

# The records that an inventory reads; the rest of an image stays in the archive.
_WANTED = re.compile(
    r"(.*/)?[^/]+\.dist-info/.+|var/lib/dpkg/status(\.d/.+)?|(etc|usr/lib)/os-release"
    r"|usr/share/doc/[^/]+(/copyright)?|(.*/)?[^/]+\.libs/[^/]+\.so[^/]*|(.*/)?configs/metadata\.json|(.*/)?MANIFEST\.sha256[^/]*"
)
_LAYER = {"application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"}


class ArchiveError(ValueError):
    """The file is no OCI image archive, or not whole."""


@dataclass(frozen=True)
class Image:
    """Digests ("sha256:…") that engines and registries call the image by, and its labels."""

    manifest_digest: str
    config_digest: str
    architecture: str
    labels: dict[str, str]


def read_image(archive: Path) -> Image:
    """What an archive says of its image.

    Raises
    ------
    ArchiveError
        The file is no OCI image archive, or not whole.
    """
    with _opened(archive) as tar:
        digest, manifest = _manifest(tar)
        config = _blob_json(tar, manifest["config"]["digest"])
    return Image(
        digest,
        str(manifest["config"]["digest"]),
        str(config.get("architecture", "")),
        dict(config.get("config", {}).get("Labels") or {}),
    )


def unpack_records(archive: Path, root: Path) -> None:
    """Write the records of all layers into `root`, later layers over earlier ones.

    Raises
    ------
    ArchiveError
        The file is no OCI image archive, or not whole.
    """
    with _opened(archive) as tar:
        _, manifest = _manifest(tar)
        for layer in manifest["layers"]:
            if layer["mediaType"] not in _LAYER:
                raise ArchiveError(
                    f"{archive.name} has a layer of type {layer['mediaType']}: push it as gzip"
                )
            with _blob(tar, layer["digest"]) as stream, tarfile.open(fileobj=stream, mode="r:*") as inner:
                for member in inner:
                    _place(inner, member, root)


def _place(layer: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    path = PurePosixPath(member.name.lstrip("/"))
    if ".." in path.parts:
        raise ArchiveError(f"a layer holds the name {member.name}, which leads out of the image")
    if path.name.startswith(".wh."):
        _whiteout(root / path.parent, path.name.removeprefix(".wh."))
        return
    name = path.as_posix().removeprefix("./")
    if member.isdir() or not _WANTED.fullmatch(name):
        return
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        if name.startswith("usr/share/doc/"):  # of these alone a link is followed, by its last part
            target.unlink(missing_ok=True)
            target.symlink_to(PurePosixPath(member.linkname).name)
        return
    content = layer.extractfile(member)
    if content is not None:
        target.unlink(missing_ok=True)
        with target.open("wb") as file:
            if target.parent.suffix != ".libs":  # of libraries the name is the record
                shutil.copyfileobj(content, file)


def _whiteout(folder: Path, name: str) -> None:
    """Take away what an earlier layer had: one name, or with `.wh..opq` all of a folder."""
    gone = list(folder.iterdir()) if name == ".wh..opq" and folder.is_dir() else [folder / name]
    for path in gone:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _opened(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive, "r:")
    except (tarfile.TarError, OSError) as error:
        raise ArchiveError(f"{archive} cannot be read as an OCI archive ({error})") from None


def _manifest(tar: tarfile.TarFile) -> tuple[str, Any]:
    try:
        index = json.load(_member(tar, "index.json"))
        [entry] = index["manifests"]
        digest = str(entry["digest"])
        return digest, _blob_json(tar, digest)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(
            "the archive's index.json does not name one image: push one, for one platform"
        ) from None


def _blob_json(tar: tarfile.TarFile, digest: str) -> Any:
    with _blob(tar, digest) as stream:
        return json.load(stream)


def _blob(tar: tarfile.TarFile, digest: str) -> IO[bytes]:
    """A blob, compared with the digest that names it."""
    stream = _member(tar, f"blobs/{digest.replace(':', '/')}")
    if f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" != digest:  # type: ignore[arg-type]
        raise ArchiveError(f"the archive is damaged: the blob {digest} has another digest")
    stream.seek(0)
    return stream


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    for candidate in _spellings(name):
        try:
            stream = tar.extractfile(candidate)
        except KeyError:
            continue
        if stream is not None:
            return stream
    raise ArchiveError(f"the archive has no {name}: give one made with `oci-archive:`")


def _spellings(name: str) -> Iterator[str]:
    yield name
    yield f"./{name}"
