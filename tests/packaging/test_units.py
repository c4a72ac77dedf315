"""The systemd units of the appliance, read by systemd's own checkers; nothing is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.hosts import ROOT
from tests.programs import program

UNITS = ROOT / "packaging" / "appliance" / "systemd"
HIGHEST_EXPOSURE = 15  # tenths; systemd calls up to 2.0 safe, and a service without any bounds has 9.6


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units with the environment of these tests in the place of /opt/busmap."""
    program("systemd-analyze")
    folder = tmp_path_factory.mktemp("units")
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.timer")):
        text = unit.read_text().replace("/opt/busmap/.venv/bin", str(Path(sys.executable).parent))
        text = text.replace("/opt/busmap", str(ROOT))
        (folder / unit.name).write_text(text)
    return folder


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], check=False, capture_output=True, text=True
    )


def test_systemd_finds_nothing_wrong(units: Path) -> None:
    answer = _analyze("verify", *(str(one) for one in sorted(units.iterdir())))
    assert (answer.returncode, answer.stderr) == (0, "")


def test_systemd_finds_a_mistake(units: Path, tmp_path: Path) -> None:
    text = (units / "busmap.service").read_text().replace("ProtectSystem=strict", "ProtectSytem=strict")
    (tmp_path / "busmap.service").write_text(text)
    assert "ProtectSytem" in _analyze("verify", str(tmp_path / "busmap.service")).stderr


@pytest.mark.parametrize("name", ["busmap.service", "busmap-backup.service"])
def test_little_is_exposed(units: Path, name: str) -> None:
    arguments = ("security", "--offline=true", f"--threshold={HIGHEST_EXPOSURE}")
    answer = _analyze(*arguments, str(units / name))
    assert answer.returncode == 0, answer.stdout
    open_text = "\n".join(
        line for line in (units / name).read_text().splitlines() if not line.startswith(("Protect", "Cap"))
    )
    (units / "open").mkdir(exist_ok=True)
    (units / "open" / name).write_text(open_text)
    assert _analyze(*arguments, str(units / "open" / name)).returncode != 0, "the threshold can be missed"


def test_the_account_is_one_that_systemd_can_make(tmp_path: Path) -> None:
    program("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    answer = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "busmap.sysusers")],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "busmap:x:" in (tmp_path / "etc" / "passwd").read_text()
