"""Programs of packaging/ as modules, and a container made of this checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import ModuleType

import pytest

from app.demo.studies import make_study, read_samples
from tests.packaging.hosts import ROOT, Container, outside

# Programs under packaging/ are scripts that import each other by name.
sys.path.append(str(ROOT / "packaging" / "map"))
import archive

from tests.packaging.built import Built, build, unpacked


@pytest.fixture(scope="session")
def program_of() -> Callable[[str], ModuleType]:
    """Loads a program of packaging/, which is no package, by its path below it."""

    def load(path: str) -> ModuleType:
        file = ROOT / "packaging" / path
        spec = importlib.util.spec_from_file_location(f"busmap_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def manifests(program_of: Callable[[str], ModuleType]) -> ModuleType:
    """packaging/map/manifests.py."""
    return program_of("map/manifests.py")


@pytest.fixture(scope="session")
def written(manifests: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of app.json and pkg.json."""
    folder = tmp_path_factory.mktemp("manifests")
    folder.chmod(0o755)
    manifests.write_manifests(folder)
    return folder


@pytest.fixture(scope="session")
def container(written: Path, manifests: ModuleType) -> Container:
    """A root laid out like the image's."""
    return outside(written, manifests.ENVIRONMENT)


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sample studies as folders of DICOM files, and the result of one by `python -m app` outside."""
    root = tmp_path_factory.mktemp("studies")
    samples = {sample.name: sample for sample in read_samples()}
    folders = {"jpeg": root / "jpeg", "benign": root / "benign", "jpeg result": root / "result"}
    for number, name in ((1, "colour JPEG"), (2, "benign, two views")):
        folder = folders["jpeg" if number == 1 else "benign"]
        folder.mkdir()
        make_study(samples[name], folder, number, datetime(2026, 5, 4, 8, 0))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("BUSMAP_")}
    subprocess.run(
        [sys.executable, "-m", "app", "-i", folders["jpeg"], "-o", folders["jpeg result"]],
        cwd=ROOT,
        env=variables,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return folders


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The image of this checkout, built and unpacked once; or that of the folder which MAP_BUILT names."""
    folder = tmp_path_factory.mktemp("image")
    if given := os.environ.get("MAP_BUILT"):
        return unpacked(archive.read_image(Path(given) / "busmap.oci.tar"), Path(given), folder / "root")
    return unpacked(build(folder), folder, folder / "unpacked")
