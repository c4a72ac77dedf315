"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.bootstrap import prepare_process

prepare_process()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data named by BUSMAP_SHARED; the test skips where it is unset."""
    root = os.environ.get("BUSMAP_SHARED")
    if not root:
        pytest.skip("BUSMAP_SHARED is not set: it names the folder of real test data")
    return Path(root).resolve() / "data"


@pytest.fixture(scope="session")
def dicom_us(shared_data: Path) -> Path:
    """The corpus of real and synthetic ultrasound DICOM files."""
    return shared_data / "dicom-us"
