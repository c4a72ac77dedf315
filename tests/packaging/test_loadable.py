"""The image's archive in the forms that Docker and Podman load."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import archive
import loadable
import pytest

from tests.packaging.supply import oci_archive, small_root


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """An archive as buildah writes it: OCI form alone."""
    return oci_archive(small_root(tmp_path / "root"), tmp_path / "image.tar")


def _read(path: Path, name: str) -> bytes:
    with tarfile.open(path) as tar:
        stream = tar.extractfile(name)
        assert stream is not None
        return stream.read()


def test_what_docker_reads_of_an_archive_leads_to_the_image(made: Path) -> None:
    digest = archive.read_image(made).digest
    loadable.make_loadable(made, "busmap:1.2.3")
    [image] = json.loads(_read(made, "manifest.json"))
    assert image["RepoTags"] == ["busmap:1.2.3"]
    # Docker compares each layer, unpacked, with the configuration.
    layers = [gzip.decompress(_read(made, layer)) for layer in image["Layers"]]
    unpacked = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    assert unpacked == json.loads(_read(made, image["Config"]))["rootfs"]["diff_ids"]
    [entry] = json.loads(_read(made, "index.json"))["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "docker.io/library/busmap:1.2.3"
    assert entry["digest"] == digest == archive.read_image(made).digest


def test_done_twice_it_is_the_same_archive(made: Path) -> None:
    loadable.make_loadable(made, "busmap:1.2.3")
    once = made.read_bytes()
    loadable.make_loadable(made, "busmap:1.2.3")
    assert made.read_bytes() == once


@pytest.mark.parametrize(
    ("name", "local", "full"),
    [
        ("busmap", "busmap:latest", "docker.io/library/busmap:latest"),
        ("registry.example:5000/ai/busmap", *["registry.example:5000/ai/busmap:latest"] * 2),
    ],
)
def test_a_name_is_written_out(made: Path, name: str, local: str, full: str) -> None:
    loadable.make_loadable(made, name)
    assert json.loads(_read(made, "manifest.json"))[0]["RepoTags"] == [local]
    [entry] = json.loads(_read(made, "index.json"))["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == full


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
@pytest.mark.parametrize("command", [["load", "-i", "ARCHIVE"], ["pull", "docker-archive:ARCHIVE"]])
def test_podman_takes_it_in_both_forms(made: Path, command: list[str]) -> None:
    """`docker-archive:` is the form that Docker reads, read by a program that is not ours."""
    loadable.make_loadable(made, "busmap:1.2.3")
    with tempfile.TemporaryDirectory() as store:  # Podman takes no long path for its runroot
        image_id = _loaded(store, [one.replace("ARCHIVE", str(made)) for one in command])
    [image] = json.loads(_read(made, "manifest.json"))
    assert image_id == Path(image["Config"]).name


def _loaded(store: str, command: list[str]) -> str:
    """The identifier of the image that Podman has after the command."""
    places = [f"--root={store}/root", f"--runroot={store}/run", "--storage-driver=vfs"]

    def ask(*words: str) -> str:
        done = subprocess.run(["podman", *places, *words], cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    ask(*command)
    return ask("image", "inspect", "--format", "{{.Id}}", "busmap:1.2.3")
