"""The bundle for a machine without a network, verified by what a hospital's Linux has."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from airgap import BundleError, make_bundle

from tests.models.test_manifest import flip, key_pair, openssl
from tests.packaging.supply import ROOT, debian, distribution, oci_archive, run, small_root

PARTS = [
    "README.md",
    "NOTICE",
    "appliance/compose.yaml",
    "SHA256SUMS",
    "SHA256SUMS.sig",
    "checks/advisories.md",
    "checks/licences.md",
    "docs/supply-chain.md",
    "image/digests.txt",
    "image/image.oci.tar",
    "keys/public.pem",
    "sbom/busmap.cdx.json",
    "verify.sh",
]
REAL_IMAGE = ROOT / "build/map/busmap.oci.tar"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return key_pair(tmp_path_factory.mktemp("keys"), "project")


@pytest.fixture(scope="module")
def made(keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    archive = oci_archive(small_root(folder / "root"), folder / "image.oci.tar")
    done = run("airgap.py", archive, "--key", keys[0], "--out", folder / "a bundle")
    assert done.returncode == 0, done.stderr
    return folder / "a bundle"


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "a bundle"))


def verify(bundle: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """With nothing in the environment but the folders of the system's own programs."""
    return subprocess.run(
        ["sh", str(bundle / "verify.sh"), *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
    )


def test_a_whole_bundle_is_verified_with_the_key_from_elsewhere_and_with_its_own(bundle: Path, keys) -> None:
    done = verify(bundle, "--key", keys[1])
    assert (done.returncode, done.stderr) == (0, "")
    [fingerprint] = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("Key:")]
    assert fingerprint in (bundle / "README.md").read_text()
    own = verify(bundle)
    assert own.returncode == 0
    assert "The key came with the bundle" in own.stderr


@pytest.mark.parametrize("part", PARTS)
def test_one_flipped_byte_in_any_part_is_found(bundle: Path, keys, part: str) -> None:
    flip(bundle / part, 20 if part == "verify.sh" else None)  # of the script, within its first comment
    done = verify(bundle, "--key", keys[1])
    assert done.returncode == 1, done.stdout
    assert f"{part}: FAILED" in done.stderr or "SHA256SUMS: its signature" in done.stderr
    assert "Do not install" in done.stderr
    assert "Whole" not in done.stdout


def test_every_file_is_in_a_part_that_was_tried(made: Path) -> None:
    tops = {path.relative_to(made).parts[0] for path in made.rglob("*") if path.is_file()}
    assert tops == {part.split("/")[0] for part in PARTS} | {"LICENSE"}


def test_a_missing_an_added_and_a_hidden_file_and_a_link_are_named(bundle: Path, keys) -> None:
    (bundle / "checks/licences.md").unlink()
    (bundle / "image/more.tar").write_bytes(b"x")
    (bundle / ".hidden").write_bytes(b"")
    (bundle / "-e odd\nname").write_bytes(b"")
    target = bundle.parent / "elsewhere.md"
    shutil.move(bundle / "NOTICE", target)
    (bundle / "NOTICE").symlink_to(target)
    done = verify(bundle, "--key", keys[1])
    assert done.returncode == 1
    for words in ("checks/licences.md: FAILED open", "image/more.tar", ".hidden", "odd", "./NOTICE"):
        assert words in done.stderr
    assert "its signature" not in done.stderr


def test_sums_written_anew_need_the_private_key(bundle: Path, keys, tmp_path: Path) -> None:
    """Who changes a file and the sums with it, or signs with a key of his own and puts that in the bundle."""
    flip(bundle / "image/image.oci.tar")
    sums = subprocess.run(
        "find . -type f ! -name 'SHA256SUMS*' | sed 's|^./||' | sort | xargs sha256sum > SHA256SUMS",
        shell=True,
        cwd=bundle,
        check=False,
    )
    assert sums.returncode == 0
    assert "its signature" in verify(bundle, "--key", keys[1]).stderr
    other, other_public = key_pair(tmp_path, "other")
    shutil.copyfile(other_public, bundle / "keys/public.pem")
    subprocess.run(
        "find . -type f ! -name 'SHA256SUMS*' | sed 's|^./||' | sort | xargs sha256sum > SHA256SUMS",
        shell=True,
        cwd=bundle,
        check=True,
    )
    openssl("dgst", "-sha256", "-sign", other, "-out", bundle / "SHA256SUMS.sig", bundle / "SHA256SUMS")
    assert verify(bundle).returncode == 0  # hence the warning that the key came with the bundle
    done = verify(bundle, "--key", keys[1])
    assert done.returncode == 1
    assert "its signature" in done.stderr


def test_wrong_use_ends_with_a_reason(bundle: Path) -> None:
    for arguments, words in (
        (["--kye", "x"], "unknown argument --kye"),
        (["--key"], "takes a file"),
        (["--key", "no"], "cannot be read"),
        (["--image"], "takes a name"),
    ):
        done = verify(bundle, *arguments)
        assert done.returncode == 2
        assert words in done.stderr


def test_what_is_in_it_is_what_is_in_the_image(made: Path) -> None:
    document = json.loads((made / "sbom/busmap.cdx.json").read_text())
    assert {one["name"] for one in document["components"]} == {"front-end", "back-end", "libone", "libtwo"}
    assert "nothing was checked" in (made / "checks/advisories.md").read_text()
    assert "sha256:" in (made / "image/digests.txt").read_text()


def test_an_image_with_a_forbidden_licence_is_not_bundled(keys, tmp_path: Path) -> None:
    root = small_root(tmp_path / "root")
    distribution(root, "planted", headers=["License-Expression: AGPL-3.0-only"])
    debian(root, "libplanted", None)
    archive = oci_archive(root, tmp_path / "image.tar")
    with pytest.raises(BundleError) as caught:
        make_bundle(archive, keys[0], tmp_path / "bundle")
    assert "planted: not among the allowed licences" in str(caught.value)
    assert "libplanted: its copyright file is missing" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar", "root"]


def test_a_wrong_key_and_a_folder_that_is_there_are_refused(made: Path, keys, tmp_path: Path) -> None:
    archive = made / "image/image.oci.tar"
    other = tmp_path / "ed.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", other)
    done = run("airgap.py", archive, "--key", other, "--out", tmp_path / "bundle")
    assert (done.returncode, done.stderr) == (
        1,
        f"bundle: {other} is not ECDSA on P-256: see docs/supply-chain.md\n",
    )
    with pytest.raises(BundleError, match="openssl pkey failed"):
        make_bundle(archive, tmp_path / "none.pem", tmp_path / "bundle")
    with pytest.raises(BundleError, match="is there already"):
        make_bundle(archive, keys[0], made)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_the_image_that_podman_has_is_compared(bundle: Path, keys, tmp_path: Path) -> None:
    storage = tmp_path / "storage.conf"
    store = {"driver": "vfs", "graphroot": f"{tmp_path}/store", "runroot": f"{tmp_path}/run"}
    storage.write_text("[storage]\n" + "".join(f'{name} = "{value}"\n' for name, value in store.items()))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CONTAINERS_STORAGE_CONF": str(storage)}

    def ask(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(one) for one in command], env=environment, cwd="/", capture_output=True, text=True
        )

    check = ("sh", bundle / "verify.sh", "--key", keys[1], "--image", "localhost/busmap:test")
    assert "has no image" in ask(*check).stderr
    loaded = ask("podman", "load", "-i", bundle / "image/image.oci.tar")
    assert loaded.returncode == 0, loaded.stderr
    done = ask(*check)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is the one of this bundle" in done.stdout
    other = oci_archive(small_root(tmp_path / "other"), tmp_path / "other.tar")
    assert ask("podman", "load", "-i", other).returncode == 0
    done = ask(*check)
    assert done.returncode == 1
    assert "which is not the one of this bundle" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not REAL_IMAGE.exists(), reason="the image is not built: make map")
def test_the_real_image_is_bundled_and_verified(keys, tmp_path: Path) -> None:
    done = run("airgap.py", REAL_IMAGE, "--key", keys[0], "--out", tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert verify(tmp_path / "bundle", "--key", keys[1]).returncode == 0
    names = {
        one["name"]
        for one in json.loads((tmp_path / "bundle/sbom/busmap.cdx.json").read_text())["components"]
    }
    assert {"pydicom", "onnxruntime", "libc6", "breast_us_lesion"} <= names
    assert not names & {"torch", "pytest", "pip"}
