"""A bundle's manifest and its signatures: every byte counts, and OpenSSL agrees."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtime.bundle import SHIPPED
from models.runtime.manifest import (
    MANIFEST,
    UntrustedModelError,
    sign_bundle,
    verify_bundle,
    write_manifest,
)
from models.runtime.signature import KeyFileError, PublicKey, read_public_key, sign


def openssl(*arguments: object) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}-public.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Private and public key of a site, made by OpenSSL."""
    return key_pair(tmp_path_factory.mktemp("keys"), "site")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The smallest bundle that ships."""
    return Path(shutil.copytree(SHIPPED / "breast_us_marks", tmp_path / "breast_us_marks"))


def flip(path: Path, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(bytes(content))


SHIPPED_FILES = sorted(
    path.relative_to(SHIPPED).as_posix()
    for path in SHIPPED.rglob("*")
    if path.is_file() and not path.name.startswith(MANIFEST)
)


@pytest.mark.parametrize("name", SHIPPED_FILES)
def test_one_flipped_byte_in_any_file_that_ships_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name.split("/")[0]
    shutil.copytree(SHIPPED / folder.name, folder)
    verify_bundle(folder)
    flip(tmp_path / name)
    with pytest.raises(UntrustedModelError, match=f"^{name} was changed .*reinstall"):
        verify_bundle(folder)


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_any_flipped_bit_of_a_signed_manifest_is_refused(
    site: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("bundle") / "one"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text("{}")
    write_manifest(folder)
    sign_bundle(folder, site[0])
    keys = [read_public_key(site[1])]
    assert verify_bundle(folder, keys).signed_by == (keys[0].key_id,)
    content = bytearray((folder / MANIFEST).read_bytes())
    content[place % len(content)] ^= 1 << bit
    (folder / MANIFEST).write_bytes(bytes(content))
    with pytest.raises(UntrustedModelError, match=r"is no signature over MANIFEST\.sha256"):
        verify_bundle(folder, keys)


def test_what_ships_is_as_its_manifests_say_for_sha256sum_too() -> None:
    folders = sorted(path.parent.parent for path in SHIPPED.glob("*/configs/metadata.json"))
    assert len(folders) >= 3
    for folder in folders:
        done = subprocess.run(
            ["sha256sum", "--strict", "--quiet", "-c", MANIFEST],
            cwd=folder, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_missing_and_an_added_file_and_a_link_are_named(bundle: Path) -> None:
    (bundle / "docs" / "README.md").unlink()
    (bundle / "models" / "other.onnx").write_bytes(b"x")
    weights = bundle / "models" / "model.onnx"
    shutil.move(weights, bundle.parent / "elsewhere.onnx")
    weights.symlink_to(bundle.parent / "elsewhere.onnx")
    with pytest.raises(UntrustedModelError) as caught:
        verify_bundle(bundle)
    for words in ("docs/README.md is missing", "other.onnx was added", "model.onnx is a symbolic link"):
        assert words in str(caught.value)
    with pytest.raises(UntrustedModelError, match="link"):
        write_manifest(bundle)


@pytest.mark.parametrize(
    ("content", "word"), [(None, "busmap models manifest"), (b"", "empty"), (b"\xff", "damaged")]
)
def test_a_bundle_without_a_readable_manifest_is_refused(
    bundle: Path, content: bytes | None, word: str
) -> None:
    (bundle / MANIFEST).unlink()
    if content is not None:
        (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(UntrustedModelError, match=word):
        verify_bundle(bundle)


def test_a_key_asks_for_its_own_signature(bundle: Path, site: tuple[Path, Path], tmp_path: Path) -> None:
    project, project_public = key_pair(tmp_path, "project")
    keys = [read_public_key(project_public), read_public_key(site[1])]
    with pytest.raises(UntrustedModelError, match=keys[1].key_id):
        verify_bundle(bundle, keys)
    sign_bundle(bundle, site[0])
    assert verify_bundle(bundle, keys).signed_by == (keys[1].key_id,)
    with pytest.raises(UntrustedModelError, match="no signature of a given key"):
        verify_bundle(bundle, keys[:1])
    sign_bundle(bundle, project)
    assert verify_bundle(bundle, keys).signed_by == tuple(key.key_id for key in keys)
    assert verify_bundle(bundle).signed_by == ()
    write_manifest(bundle)
    assert not list(bundle.glob("*.sig"))


def test_a_changed_bundle_whose_manifest_was_written_anew_has_lost_its_signature(
    bundle: Path, site: tuple[Path, Path]
) -> None:
    signature = sign_bundle(bundle, site[0])
    kept = signature.read_bytes()
    flip(bundle / "models" / "model.onnx")
    with pytest.raises(UntrustedModelError, match="was changed"):
        sign_bundle(bundle, site[0])
    write_manifest(bundle)
    signature.write_bytes(kept)
    assert verify_bundle(bundle).signed_by == ()  # without a key the hashes alone are compared
    with pytest.raises(UntrustedModelError, match="is no signature"):
        verify_bundle(bundle, [read_public_key(site[1])])


def test_openssl_verifies_our_signatures_and_we_its(bundle: Path, site: tuple[Path, Path]) -> None:
    private, public = site
    manifest = bundle / MANIFEST
    ours = sign_bundle(bundle, private)
    assert "Verified OK" in openssl("dgst", "-sha256", "-verify", public, "-signature", ours, manifest)
    openssl("dgst", "-sha256", "-sign", private, "-out", ours, manifest)
    assert verify_bundle(bundle, [read_public_key(public)]).signed_by


def test_the_id_of_a_key_is_what_openssl_says(site: tuple[Path, Path], tmp_path: Path) -> None:
    der = tmp_path / "key.der"
    openssl("pkey", "-pubin", "-in", site[1], "-outform", "DER", "-out", der)
    assert openssl("dgst", "-sha256", der).split()[-1][:16] == read_public_key(site[1]).key_id


def test_keys_of_other_kinds_are_refused_with_a_remedy(site: tuple[Path, Path], tmp_path: Path) -> None:
    other, other_public = tmp_path / "ed.pem", tmp_path / "ed-public.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", other)
    openssl("pkey", "-in", other, "-pubout", "-out", other_public)
    (tmp_path / "text.pem").write_text("no key")
    for path, word in (
        (other_public, "another kind"),
        (site[0], "holds a private key"),
        (tmp_path / "text.pem", "no public key"),
        (tmp_path / "none.pem", "cannot be read"),
    ):
        with pytest.raises(KeyFileError, match=word):
            read_public_key(path)
    for path in (other, site[1]):
        with pytest.raises(KeyFileError, match="openssl ecparam"):
            sign(b"content", path)


def test_a_key_with_a_passphrase_signs_only_with_it(site: tuple[Path, Path], tmp_path: Path) -> None:
    locked = tmp_path / "locked.pem"
    openssl("pkcs8", "-topk8", "-in", site[0], "-out", locked, "-passout", "pass:owl")
    public = read_public_key(site[1])
    key_id, signature = sign(b"content", locked, b"owl")
    assert key_id == public.key_id
    assert public.verifies(signature, b"content")
    for wrong in (None, b"cat"):
        with pytest.raises(KeyFileError, match="passphrase"):
            sign(b"content", locked, wrong)


@given(noise=st.binary(max_size=80))
def test_noise_is_no_signature(site: tuple[Path, Path], noise: bytes) -> None:
    key: PublicKey = read_public_key(site[1])
    assert not key.verifies(noise, b"content")
