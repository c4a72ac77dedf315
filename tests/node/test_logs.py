"""What reaches a log line, and what never does."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import StoreError
from app.logs import study_refs
from app.settings import Settings

PROGRAM = """
import logging, warnings
from app.logs import configure_logs, log
configure_logs("test", "info")
log().info("study-closed", patient="CANARY", reason="UID 1.2.840.10008.1.1 and 10.1.2.3", port=3)
log().debug("hidden")
for name in ("pydicom", "pynetdicom.association", "dbos", "other"):
    logging.getLogger(name).warning("CANARY %s", "CANARY")
    logging.getLogger(name).info("CANARY")
warnings.warn("CANARY")
try:
    raise ValueError("CANARY")
except ValueError:
    logging.getLogger("pynetdicom.dul").exception("CANARY")
"""


def test_lines_hold_allowed_fields_only() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == ""
    assert "CANARY" not in done.stderr
    first, *rest = [json.loads(line) for line in done.stderr.splitlines()]
    assert first["event"] == "study-closed"
    assert first["reason"] == "UID [uid] and 10.1.2.3"
    assert "patient" not in first
    assert [line["logger"] for line in rest] == [
        *("pydicom", "pynetdicom.association", "dbos", "other", "py.warnings", "pynetdicom.dul")
    ]
    assert rest[-1]["error"] == "ValueError"


def test_study_ref_is_keyed_and_stable(tmp_path: Path) -> None:
    kept = Settings(state_folder=tmp_path)
    given = Settings(state_folder=tmp_path, site_key="site")
    assert study_refs(kept)("1.2.3") == study_refs(kept)("1.2.3")
    assert len({study_refs(kept)("1.2.3"), study_refs(given)("1.2.3"), study_refs(kept)("1.2.4")}) == 3
    assert len(study_refs(kept)("1.2.3")) == 16
    assert stat.S_IMODE((tmp_path / "site_key").stat().st_mode) == 0o600


def test_empty_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "site_key").touch()
    with pytest.raises(StoreError, match="empty"):
        study_refs(Settings(state_folder=tmp_path))
