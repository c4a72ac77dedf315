"""The entry point of the container: what it starts, prints and copies, and that it is no more in between."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import types
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings
from tests.packaging.hosts import ENTRY_POINT, ROOTFS, Container, Mount
from tests.waiting import wait_until

PROGRAM = ROOTFS / "usr" / "local" / "bin" / ENTRY_POINT
_LOADER = SourceFileLoader("busmap_map", str(PROGRAM))
ENTRY = types.ModuleType("busmap_map")
_LOADER.exec_module(ENTRY)


def _environment(folder: Path, command: object, **more: str) -> dict[str, str]:
    """The variables for a package of one file: an app.json with `command`."""
    manifest = {
        "command": command,
        "workingDirectory": str(folder),
        "environment": {"FROM_MANIFEST": "manifest", "OF_THE_HOST": "manifest"},
    }
    (folder / "app.json").write_text(json.dumps(manifest))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOLOSCAN_APP_MANIFEST_PATH": str(folder / "app.json"), **more}


def _run(folder: Path, command: object, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-IS", PROGRAM, *arguments],
        env=_environment(folder, command, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        "python3 -c 'import sys; print(sys.argv[1:])'",
        ["python3", "-c", "import sys; print(sys.argv[1:])"],
        json.dumps(["python3", "-c", "import sys; print(sys.argv[1:])"]),
        "true && A=1 python3 -c 'import sys; print(sys.argv[1:])'",
        "[ -d / ] && python3 -c 'import sys; print(sys.argv[1:])'",
        "A=1 python3 -c 'import sys; print(sys.argv[1:])'",
    ],
    ids=["words", "array", "array in a string", "shell", "a shell's bracket", "assignment"],
)
def test_every_way_to_write_a_command_runs_with_the_arguments(tmp_path, command):
    done = _run(tmp_path, command, "-i", "a b", "")
    assert done.stdout == "['-i', 'a b']\n", done.stderr
    assert done.returncode == 0


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_any_words_stay_themselves_in_every_way_to_write_them(given_words):
    for command in (given_words, json.dumps(given_words)):
        assert ENTRY.words(command) == given_words
    # A shell command is taken apart as a shell would, or left to one.
    written = shlex.join(given_words)
    taken = ENTRY.words(written)
    assert taken in (given_words, ["/bin/sh", "-c", f'{written} "$@"', "busmap-map"])


def test_the_environment_of_the_manifest_is_there_and_the_hosts_wins(tmp_path):
    command = (
        'python3 -c \'import os; print(os.getcwd(), os.environ["FROM_MANIFEST"], os.environ["OF_THE_HOST"])\''
    )
    done = _run(tmp_path, command, OF_THE_HOST="host")
    assert done.stdout.split() == [str(tmp_path), "manifest", "host"], done.stderr


@pytest.mark.parametrize("status", [0, 3, 70])
def test_the_exit_status_is_the_applications(tmp_path, status):
    assert _run(tmp_path, f"python3 -c 'raise SystemExit({status})'").returncode == status


def test_a_signal_reaches_the_application_itself(tmp_path):
    program = "import signal, sys; print('up', flush=True); signal.sigwait({signal.SIGTERM}); sys.exit(42)"
    blocked = f"import signal; signal.pthread_sigmask(0, [15]); {program}"
    process = subprocess.Popen(
        [sys.executable, "-IS", PROGRAM],
        env=_environment(tmp_path, ["python3", "-c", blocked]),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert PROGRAM.name not in Path(f"/proc/{process.pid}/cmdline").read_text(), "it has taken its place"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 42


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"command": 7}', '{"command": "no-such-program"}', '{"command": []}']
)
def test_a_damaged_manifest_is_told_in_a_line(tmp_path, content):
    environment = _environment(tmp_path, "")
    (tmp_path / "app.json").write_text(content)
    done = subprocess.run(
        [sys.executable, "-IS", PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 15
    assert done.stderr.startswith("busmap: package-damaged: ")
    assert done.stderr.count("\n") == 1


def test_show_prints_manifests_as_they_are(container: Container, written: Path):
    for name in ("app", "pkg"):
        done = container.run([ENTRY_POINT, "show", name])
        assert done.returncode == 0, done.stderr
        assert done.stdout == (written / f"{name}.json").read_text()
    both = container.run([ENTRY_POINT, "show"]).stdout
    assert (written / "app.json").read_text() in both
    assert (written / "pkg.json").read_text() in both


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mounted", [("models", "config"), ("app",), ("docs", "models"), ()])
def test_extract_copies_each_mounted_part_and_all_where_none_is(container: Container, tmp_path, mounted):
    mounts = []
    for part in mounted or ("",):
        folder = tmp_path / part
        folder.mkdir(exist_ok=True)
        mounts.append(Mount(folder, f"/var/run/holoscan/export/{part}".rstrip("/"), writable=True))
    done = container.run([ENTRY_POINT, "extract"], mounts)
    assert done.returncode == 0, done.stderr
    found = _files(tmp_path)
    expected = {
        "app": "app/app/oneshot.py",
        "config": "config/app.json",
        "models": "models/breast_us_lesion/models/model.onnx",
        "docs": "docs/limits.md",
    }
    for part, file in expected.items():
        assert (file in found) == (part in mounted or not mounted), part
    if "config" in mounted:
        assert {"config/app.json", "config/pkg.json", "config/app.yaml"} <= found


def test_extract_without_a_mount_or_into_a_closed_one_is_told(container: Container, tmp_path):
    done = container.run([ENTRY_POINT, "extract"])
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "/var/run/holoscan/export" in done.stderr
    closed = container.run([ENTRY_POINT, "extract"], [Mount(tmp_path, "/var/run/holoscan/export/models")])
    assert (closed.returncode, closed.stderr.count("\n")) == (4, 1)
    assert "writable" in closed.stderr


@pytest.mark.parametrize("url", ["", "postgresql://busmap@host/busmap"])
def test_probe_looks_where_the_node_writes(monkeypatch, url):
    for name, value in (("STATE_FOLDER", "/state"), ("RUN_FOLDER", "/run/own"), ("DATABASE_URL", url)):
        monkeypatch.setenv(f"BUSMAP_{name}", value)
    assert ENTRY.own_folder() == Settings().own_folder


def test_serve_is_the_node_and_probe_asks_it(container: Container, tmp_path):
    state = Mount(tmp_path, "/var/lib/busmap", writable=True)
    host = {"BUSMAP_GATEWAY__PORT": "0", "BUSMAP_WEB__PORT": "0"}
    node = subprocess.Popen(
        container.command([ENTRY_POINT, "serve"], [state], host, own_network=False),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:

        def probe(question: str) -> int:
            # Beside the node, as a health check runs: same network, same state folder.
            return subprocess.run(
                container.command([ENTRY_POINT, "probe", question], [state], own_network=False),
                capture_output=True,
                check=False,
            ).returncode

        wait_until(
            lambda: node.poll() is not None or (tmp_path / "gateway.json").exists(), "the gateway", 180
        )
        assert probe("live") == 0
        wait_until(lambda: node.poll() is not None or probe("ready") == 0, "the node to be ready", 180)
        [inner] = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGTERM)
        assert node.wait(timeout=180) == 0
        assert probe("live") == 1
    finally:
        node.kill()
        node.communicate()
