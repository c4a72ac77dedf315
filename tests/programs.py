"""Programs of other makers that tests run where they are installed."""

from __future__ import annotations

import shutil

import pytest


def program(name: str) -> str:
    """Where a program is; the test skips where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make peers")
    return found
