"""`busmap` as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERBS = (
    "serve",
    "worker",
    "run",
    "send",
    "status",
    "close",
    "retry",
    "resend",
    "config",
    "train",
    "validate",
)


def _busmap(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("BUSMAP_")}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=ROOT,
        env={**clean, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_verb_and_the_limits():
    done = _busmap("--help")
    assert done.returncode == 0, done.stderr
    assert "Research use" in done.stdout
    for verb in VERBS:
        assert verb in done.stdout


def test_config_shows_value_unit_and_source(tmp_path):
    (tmp_path / "busmap.yaml").write_text("gateway:\n  port: 11113\n")
    done = _busmap(
        "config", "--config", str(tmp_path / "busmap.yaml"), BUSMAP_ASSEMBLY__QUIET_PERIOD_SECONDS="7"
    )
    assert done.returncode == 0, done.stderr
    lines = {line.split("│")[1].strip(): line for line in done.stdout.splitlines() if line.count("│") > 5}
    assert "11113" in lines["gateway.port"]
    assert "file" in lines["gateway.port"]
    assert "environment" in lines["assembly.quiet_period_seconds"]
    assert " s " in lines["assembly.quiet_period_seconds"]
    assert "default" in lines["analysis.engine_threads"]


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "status"),
    [
        (("config", "-c", "nowhere.yaml"), {}, "settings-invalid", 2),
        (("config",), {"BUSMAP_LOG_LEVL": "info"}, "BUSMAP_LOG_LEVEL", 2),
        (("send", "README.md"), {}, "peer-unreachable", 7),
        (("close", "1.2.3"), {"BUSMAP_STATE_FOLDER": "/dev/null/state"}, "store-unusable", 6),
    ],
)
def test_a_fault_is_one_line_and_a_true_status(arguments, environment, code, status):
    done = _busmap(*arguments, **environment)
    assert done.returncode == status, done.stderr
    assert code in done.stderr
    assert "Traceback" not in done.stderr


def test_the_written_pages_are_what_the_program_says():
    assert (ROOT / "docs" / "settings.md").read_text() == _busmap("config", "--markdown").stdout
    assert (ROOT / "docs" / "cli.md").read_text() == _busmap("--markdown").stdout
