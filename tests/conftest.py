"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from app.bootstrap import prepare_process
from tests.postgresql import Server, running_postgresql

prepare_process()
# How long an example takes is the machine's to say, and no property of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server; the test skips where it is not installed."""
    with running_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def database_url(request: pytest.FixtureRequest) -> str:
    """Runs a test on both databases: the setting `database_url`, a new database each time."""
    if request.param == "sqlite":
        return ""
    server: Server = request.getfixturevalue("postgresql")
    return server.new_database()
