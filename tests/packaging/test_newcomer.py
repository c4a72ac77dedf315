"""A newcomer with image and guide: the commands of docs/connect-orthanc.md in one shell, and timed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest
import yaml

from app.demo.studies import make_study, read_samples
from app.send import send
from tests.node.rig import LIMIT_SECONDS
from tests.orthanc import Orthanc, free_ports, running_orthanc
from tests.packaging.built import Built
from tests.packaging.hosts import ROOT, Container, Mount
from tests.programs import program

GUIDE = ROOT / "docs" / "connect-orthanc.md"
PROMISED_SECONDS = 600


def _blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.M | re.S)


class Engine:
    """Carries out the guide's `docker run` by bubblewrap, where no engine is at hand; one container."""

    def __init__(self, container: Container, folder: Path) -> None:
        self._container, self._folder = container, folder
        self._mounts: list[Mount] = []

    def probe(self) -> subprocess.CompletedProcess[str]:
        """The health check of the compose file, in the container that runs."""
        compose = yaml.safe_load((ROOT / "packaging" / "appliance" / "compose.yaml").read_text())
        _, *words = compose["services"]["busmap"]["healthcheck"]["test"]
        command = self._container.command(words, self._mounts, own_network=False)
        return subprocess.run(command, check=False, capture_output=True, text=True)

    def translate(self, line: str) -> str:
        """The shell line for a `docker` line of the guide."""
        verb, *words = shlex.split(line.replace("$PWD", str(self._folder)))[1:]
        if verb == "load":
            return ":"  # the container's root is unpacked already
        assert verb == "run"
        mounts, given = self._mounts, set()
        while words[0].startswith("-"):
            option = words.pop(0)
            if option == "-v":
                mounts.append(self._mount(words.pop(0)))
            elif option in ("--name", "--network", "--user", "--cap-drop", "--security-opt", "--tmpfs"):
                given.add((option, words.pop(0)))
            else:
                given.add((option, ""))
        # What bubblewrap does anyway has to stand in the guide.
        assert {("--read-only", ""), ("--cap-drop", "ALL"), ("--security-opt", "no-new-privileges")} <= given
        assert ("--network", "host") in given
        command = self._container.command(["busmap-map", *words[1:]], mounts, own_network=False)
        return f"{shlex.join(command)} > engine.log 2>&1 &"

    def _mount(self, words: str) -> Mount:
        source, target, *mode = words.split(":")
        if not source.startswith("/"):  # a named volume
            source = str(self._folder / source)
            Path(source).mkdir(exist_ok=True)
        return Mount(Path(source), target, writable=mode != ["ro"])


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """The newcomer's own, with a study in it."""
    with running_orthanc(tmp_path / "orthanc") as one:
        study = make_study(read_samples()[0], tmp_path, 1, datetime(2026, 1, 2))
        assert all(sent.stored for sent in send(study.paths, "127.0.0.1", one.dicom_port, one.ae_title))
        yield one


def test_a_newcomer_connects_it_to_an_orthanc_of_his_own(
    tmp_path: Path, orthanc: Orthanc, container: Container, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = _follow_the_guide(tmp_path, orthanc, container, quiet_period_seconds=2)
    with capsys.disabled():
        print(f"\nnewcomer's commands: {seconds:.0f} s, with a quiet period of 2 s in the place of 10")


@pytest.mark.slow
@pytest.mark.image
def test_a_newcomer_connects_the_built_image_to_an_orthanc_of_his_own(
    tmp_path: Path, orthanc: Orthanc, built: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    container = Container(_with_open_etc(built.root), built.environment)
    seconds = _follow_the_guide(tmp_path, orthanc, container)
    with capsys.disabled():
        print(f"\nnewcomer's commands, built image: {seconds:.0f} s")


def _with_open_etc(root: Path) -> tuple[str, ...]:
    """The image's root with room for a mount point in /etc, which an engine makes by itself."""
    parts = [*(one for one in sorted(root.iterdir()) if one.name != "etc"), *sorted((root / "etc").iterdir())]
    words = ["--dir", "/etc"]
    for part in parts:
        at = f"/{part.relative_to(root)}"
        words += (
            ["--symlink", str(part.readlink()), at] if part.is_symlink() else ["--ro-bind", str(part), at]
        )
    return tuple(words)


def _follow_the_guide(
    tmp_path: Path, orthanc: Orthanc, container: Container, quiet_period_seconds: int = 10
) -> float:
    """Type the guide's blocks; answers the seconds that they took."""
    program("curl")
    folder = tmp_path / "newcomer"
    folder.mkdir()
    engine = Engine(container, folder)
    dicom_port, web_port = free_ports(2)
    script = "\n".join(_blocks())
    for pattern, value in (
        # What the guide says to put one's own in for, and ports of a machine that others use.
        (r"^ORTHANC=.*", f"ORTHANC={orthanc.root}"),
        (r"^AET=.*", f"AET={orthanc.ae_title}"),
        (r"^PORT=.*", f"PORT={orthanc.dicom_port}"),
        (r"quiet_period_seconds: 10", f"quiet_period_seconds: {quiet_period_seconds}"),
        (r"11112", str(dicom_port)),
        (r"8080", str(web_port)),
    ):
        script, count = re.subn(pattern, value, script, flags=re.M)
        assert count, pattern
    script = re.sub(r"^docker .*", lambda line: engine.translate(line[0]), script, flags=re.M)
    began = time.monotonic()
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, stdout=subprocess.PIPE, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("BUSMAP_")},
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = shell.communicate(timeout=PROMISED_SECONDS)
        seconds = time.monotonic() - began
        log = folder / "engine.log"
        assert shell.returncode == 0, output + (log.read_text() if log.exists() else "")
        assert "AI breast US report" in output
        assert '"ready":true' in output
        probe = engine.probe()
        assert probe.returncode == 0, probe.stdout + probe.stderr
    finally:
        _stop(shell.pid)
    assert engine.probe().returncode == 1, "a node that has ended is not healthy"
    held = {str(one.Modality) for one in orthanc.held()}
    assert {"US", "SR", "OT"} <= held
    return seconds


def _stop(session: int) -> None:
    """End what the guide left running: what the shell started; the node's supervisor ends its own."""
    family = [one for one in psutil.process_iter() if _session(one.pid) == session]
    for one in list(family):
        with contextlib.suppress(psutil.NoSuchProcess):
            family += one.children(recursive=True)
            one.terminate()
    _, alive = psutil.wait_procs(set(family), LIMIT_SECONDS)
    assert not alive


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
