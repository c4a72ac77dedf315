"""Signatures by a key file: ECDSA on the curve P-256 with SHA-256 (FIPS 186-5).

Promises: needs no network and no service; what is signed here is verified by `openssl dgst -sha256 -verify`,
and the other way round. Refuses other kinds of keys, and a private key where a public one belongs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from models.runtime.engine import ModelError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

_CURVE = "secp256r1"
_MAKE = "make one with `openssl ecparam -name prime256v1 -genkey -noout -out private.pem`"


class KeyFileError(ModelError):
    """A key file cannot be used, so no model can be verified or signed by it."""

    code = "key-unusable"


class PublicKey:
    """A key that signatures are checked by. `key_id` names it: 16 hexadecimal digits."""

    def __init__(self, key: EllipticCurvePublicKey) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._key = key
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = hashlib.sha256(der).hexdigest()[:16]

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Whether `signature` (DER) was made over `content` with the private half of this key."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            self._key.verify(signature, content, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def read_public_key(path: Path) -> PublicKey:
    """Read a public key from a PEM file.

    Raises
    ------
    KeyFileError
        The file cannot be read, or holds no public key on P-256.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(path)
    if b"PRIVATE KEY" in content:
        raise KeyFileError(
            f"{path} holds a private key: give the public one (`openssl pkey -in {path.name} -pubout -out "
            "public.pem`), and keep this one off the machine"
        )
    try:
        key = load_pem_public_key(content)
    except Exception as error:  # the library raises several classes for what is no key
        raise KeyFileError(f"{path} holds no public key ({type(error).__name__}): give a PEM file") from None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name != _CURVE:
        raise KeyFileError(f"{path} holds a key of another kind than ECDSA on P-256: {_MAKE}")
    return PublicKey(key)


def is_encrypted(path: Path) -> bool:
    """Whether a private key asks for its passphrase."""
    return b"ENCRYPTED" in _read(path)


def sign(content: bytes, private_key: Path, passphrase: bytes | None = None) -> tuple[str, bytes]:
    """Sign `content`; answers the id of the key and the signature (DER).

    Raises
    ------
    KeyFileError
        The file cannot be read, holds no private key on P-256, or the passphrase is not its own.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(private_key), passphrase)
    except (ValueError, TypeError):
        raise KeyFileError(
            f"{private_key} holds no private key, or the passphrase is not its own: {_MAKE}"
        ) from None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != _CURVE:
        raise KeyFileError(f"{private_key} holds a key of another kind than ECDSA on P-256: {_MAKE}")
    return PublicKey(key.public_key()).key_id, key.sign(content, ECDSA(SHA256()))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be read ({error.strerror})") from None
