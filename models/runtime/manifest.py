"""A bundle's manifest: the SHA-256 of each of its files, and who signed for them.

Promises: a bundle is accepted only if it holds the files of its manifest, byte for byte, and no other; where
public keys are given, only if one of them vouches for the manifest. The message names the file. The manifest
is a list for `sha256sum -c`, a signature one for `openssl dgst`: neither needs busmap to be checked.
Refuses symbolic links: what they lead to may change without the bundle doing so.

Without a key the hashes show damage and oversight; they do not show the hand of one who can write both a file
and the manifest. That takes a signature.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.runtime.engine import ModelError
from models.runtime.signature import PublicKey, sign

MANIFEST = "MANIFEST.sha256"
_SIGNATURE = re.compile(re.escape(MANIFEST) + r"\.[0-9a-f]{16}\.sig")
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[^\n\\]+)")
_NAMED = 5  # files named in a message; more are counted


class UntrustedModelError(ModelError):
    """A bundle is not the one that was made, or nobody trusted signed for it."""

    code = "model-untrusted"


@dataclass(frozen=True)
class Verified:
    """A bundle whose files are those of its manifest. `signed_by`: ids of the given keys that signed it."""

    folder: Path
    files: int
    signed_by: tuple[str, ...]


def verify_bundle(folder: Path, keys: Sequence[PublicKey] = ()) -> Verified:
    """Compare a bundle with its manifest, and the manifest with the signatures of `keys`.

    Raises
    ------
    UntrustedModelError
        A file was changed, is missing or was added; there is no manifest; no key or a wrong one signed it.
    """
    content = _manifest_of(folder)
    signed_by = tuple(key.key_id for key in keys if _has_signed(folder, key, content))
    if keys and not signed_by:
        raise UntrustedModelError(
            f"{folder.name}/{MANIFEST} carries no signature of a given key "
            f"({', '.join(key.key_id for key in keys)}): sign the bundle with `busmap models sign`, or "
            "name in analysis.model_keys the key of who signed it"
        )
    expected = _entries(folder, content)
    problems = list(_problems(folder, expected))
    if problems:
        more = f", and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise UntrustedModelError(
            f"{'; '.join(problems[:_NAMED])}{more}. The model bundle {folder} is not the one that was made: "
            "reinstall it"
        )
    return Verified(folder, len(expected), signed_by)


def write_manifest(folder: Path) -> Path:
    """Write the manifest of a bundle as it is now; signatures of an earlier one go.

    Raises
    ------
    UntrustedModelError
        The folder holds a symbolic link, or a name that the list cannot carry.
    """
    lines = []
    for name, path in _files(folder):
        if path.is_symlink() or not _LINE.fullmatch(f"{'0' * 64}  {name}"):
            raise UntrustedModelError(
                f"{folder.name}/{name!r} is a link or has an odd name: use a plain file"
            )
        lines.append(f"{_sha256(path)}  {name}\n")
    for signature in _signatures(folder):
        signature.unlink()
    target = folder / MANIFEST
    partial = target.with_suffix(".partial")
    partial.write_text("".join(lines), encoding="utf-8")
    partial.replace(target)
    return target


def sign_bundle(folder: Path, private_key: Path, passphrase: bytes | None = None) -> Path:
    """Sign a bundle that is as its manifest says; answers the signature's file, named by the key's id.

    Raises
    ------
    UntrustedModelError
        The bundle is not as its manifest says: nothing is signed unseen.
    KeyFileError
        The key cannot be used.
    """
    verify_bundle(folder)
    key_id, signature = sign(_manifest_of(folder), private_key, passphrase)
    target = _signature_file(folder, key_id)
    target.write_bytes(signature)
    return target


def _signature_file(folder: Path, key_id: str) -> Path:
    return folder / f"{MANIFEST}.{key_id}.sig"


def _has_signed(folder: Path, key: PublicKey, manifest: bytes) -> bool:
    path = _signature_file(folder, key.key_id)
    try:
        signature = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UntrustedModelError(f"{folder.name}/{path.name} cannot be read ({error.strerror})") from None
    if not key.verifies(signature, manifest):
        raise UntrustedModelError(
            f"{folder.name}/{path.name} is no signature over {MANIFEST}: one of both was changed. Reinstall "
            "the model bundle"
        )
    return True


def _manifest_of(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise UntrustedModelError(
            f"{folder}/{MANIFEST} cannot be read ({error.strerror}): reinstall the model bundle, or, where "
            "it is your own, write it with `busmap models manifest`"
        ) from None


def _entries(folder: Path, content: bytes) -> dict[str, str]:
    """Digest by name."""
    entries = {}
    for line in content.decode("utf-8", "replace").splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            raise UntrustedModelError(f"{folder.name}/{MANIFEST} is damaged: reinstall the model bundle")
        entries[found["name"]] = found["digest"]
    if not entries:
        raise UntrustedModelError(f"{folder.name}/{MANIFEST} is empty: reinstall the model bundle")
    return entries


def _problems(folder: Path, expected: dict[str, str]) -> Iterator[str]:
    there = dict(_files(folder))
    for name, digest in expected.items():
        path = there.get(name)
        if path is None:
            yield f"{folder.name}/{name} is missing"
        elif path.is_symlink():
            yield f"{folder.name}/{name} is a symbolic link"
        else:
            actual = _sha256(path)
            if actual != digest:
                yield f"{folder.name}/{name} was changed (SHA-256 {actual[:12]} instead of {digest[:12]})"
    for name in there.keys() - expected.keys():
        yield f"{folder.name}/{name} was added"


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """All files by their names relative to the bundle, sorted; without the manifest and its signatures."""
    own = {folder / MANIFEST, *_signatures(folder)}
    for path in sorted(folder.rglob("*")):
        if path not in own and (path.is_symlink() or not path.is_dir()):
            yield path.relative_to(folder).as_posix(), path


def _signatures(folder: Path) -> list[Path]:
    return [path for path in folder.glob(f"{MANIFEST}.*.sig") if _SIGNATURE.fullmatch(path.name)]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UntrustedModelError(
            f"{path} cannot be read ({error.strerror}): reinstall the model bundle"
        ) from None
