"""Programs of packaging/ as modules, and a container made of this checkout."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.packaging.hosts import ROOT, Container, outside


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
