"""A newcomer with image and guide: the commands of docs/connect-orthanc.md in one shell, and timed."""

from __future__ import annotations

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

from app.demo.studies import make_study, read_samples
from app.send import send
from tests.node.rig import wait_for
from tests.orthanc import Orthanc, free_ports, running_orthanc
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

    def translate(self, line: str) -> str:
        """The shell line for a `docker` line of the guide."""
        verb, *words = shlex.split(line.replace("$PWD", str(self._folder)))[1:]
        if verb == "load":
            return ":"  # the container's root is unpacked already
        assert verb == "run"
        mounts, given = [], set()
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
    finally:
        _stop(folder)
    held = {str(one.Modality) for one in orthanc.held()}
    assert {"US", "SR", "OT"} <= held
    with capsys.disabled():
        print(f"\nnewcomer's commands: {seconds:.0f} s, from the first to the report in Orthanc")


def _stop(folder: Path) -> None:
    """End what the guide left running: all that was started in the newcomer's folder."""
    mine = [
        one
        for one in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in one.info["cmdline"] or ())
    ]
    for one in mine:
        one.terminate()
    wait_for(lambda: not [one for one in mine if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])
