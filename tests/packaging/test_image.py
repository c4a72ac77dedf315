"""The built image, unpacked and run as hosts do: another user, root read-only, no network, no capability."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from datetime import datetime
from pathlib import Path

import archive
import debian
import engine
import pytest
import tree
import wheels

from app.analyse import load, run
from app.application import Job
from app.demo.studies import make_study, read_samples
from app.settings import Settings, load_settings
from operators.load_study import find_input_files
from operators.report.composed import ReportContext
from tests.packaging.built import Built, build
from tests.packaging.contracts import CONTRACTS, Contract
from tests.packaging.hosts import ENTRY_POINT, USER, Mount
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.image]
IN, OUT = "/var/holoscan/input", "/var/holoscan/output"
LARGEST = 800_000_000
ABSENT_MODULES = """
torch torchvision monai.networks diffusers onnx einops pip setuptools ensurepip cupy tensorrt pytest
sklearn pyarrow models.data models.training models.segmentation models.diagnosis.training models.generation
validation app.demo app.bench pynetdicom.apps
"""
ABSENT_PROGRAMS = "pip pip3 gcc cc g++ c++ ld as make apt apt-get dpkg perl bash curl wget git nvcc su sudo"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of DICOM files for each sample study."""
    root = tmp_path_factory.mktemp("studies")
    folders = {}
    for number, sample in enumerate(read_samples(), start=1):
        folders[sample.name] = root / str(number)
        folders[sample.name].mkdir(mode=0o755)
        make_study(sample, folders[sample.name], number, datetime(2026, 5, 4, 8, 0))
    return folders


def _folder(place: Path) -> Path:
    place.mkdir()
    return place


def _outside(source: Path, target: Path, composed_at: str, settings: Settings) -> None:
    """The same graph in this process, for a report of the same moment."""
    context = ReportContext(composed_at=datetime.fromisoformat(composed_at))
    paths = tuple(find_input_files(source))
    run(Job(paths, target, context), engines=load(settings), settings=settings)


@pytest.mark.parametrize("name", [sample.name for sample in read_samples()])
def test_a_study_gives_byte_for_byte_what_the_graph_gives_outside(built, study, tmp_path, monkeypatch, name):
    out = _folder(tmp_path / "out")
    done = built.container.run([ENTRY_POINT], [Mount(study[name], IN), Mount(out, OUT, True)])
    assert done.returncode == 0, done.stderr
    facts = json.loads((out / "result.json").read_text())
    # The image has no tesseract, so that the graph outside must not find one either.
    monkeypatch.setenv("PATH", str(_folder(tmp_path / "no programs")))
    _outside(study[name], tmp_path / "outside", facts["composed_at"], load_settings())
    objects = sorted(path.name for path in (tmp_path / "outside").glob("*.dcm"))
    assert objects
    assert sorted(path.name for path in out.glob("*.dcm")) == objects
    for one in objects:
        assert (out / one).read_bytes() == (tmp_path / "outside" / one).read_bytes(), one


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda one: one.__name__)
def test_the_contract_of(contract: Contract, built: Built, studies, tmp_path):
    # Without the result beside them, for which a program may have read the screens: compared above.
    contract(built.container, {name: studies[name] for name in ("jpeg", "benign")}, tmp_path)


def test_nothing_that_trains_installs_or_compiles_is_in_it(built):
    look = "import importlib.util as u, sys\nfor n in sys.argv[1:]:\n try: found = u.find_spec(n)\n"
    look += " except ModuleNotFoundError: found = None\n if found: print(n, found.origin)"
    done = built.container.run(["python3", "-c", look, *ABSENT_MODULES.split()])
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    # The look itself finds what is there.
    assert built.container.run(["python3", "-c", look, "onnxruntime", "app"]).stdout.count("\n") == 2
    programs = {
        path.name
        for place in ("usr/bin", "usr/sbin", "usr/local/bin")
        for path in (built.root / place).glob("*")
    }
    assert not programs & set(ABSENT_PROGRAMS.split())
    assert {"python3", "sh", "cat", "busmap", ENTRY_POINT} <= programs
    unwanted = [path for path in built.root.rglob("*") if path.suffix in (".a", ".h", ".whl", ".deb", ".o")]
    assert unwanted == []
    assert not (built.root / "root/.cache").exists()
    assert not (built.root / "var/lib/apt").exists()


def test_everything_that_the_application_imports_is_in_it(built):
    look = "import pkgutil, importlib, app.bootstrap as b; b.prepare_process()\n"
    look += "import app, operators, models.runtime\nfor p in (app, operators, models.runtime):\n"
    look += " for m in pkgutil.walk_packages(p.__path__, p.__name__ + '.'):\n"
    look += "  if 'migrations' not in m.name and '__main__' not in m.name: importlib.import_module(m.name)\n"
    look += "import sys; print(len([n for n in sys.modules if n.startswith(('app.', 'operators.'))]))"
    done = built.container.run(["python3", "-c", look])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80


def test_the_process_is_nobody_and_can_change_nothing(built):
    script = "cat /proc/self/status; cut -d: -f1 /proc/net/dev; touch /etc/x /opt/holoscan/app/x /usr/x"
    done = built.container.run(["sh", "-c", script])
    for line in ("Uid:" + 4 * f"\t{USER}", "Gid:" + 4 * f"\t{USER}", "NoNewPrivs:\t1"):
        assert line in done.stdout, line
    assert "Groups:\t \n" in done.stdout
    assert re.findall(r"Cap\w+:\s(\w+)", done.stdout) == ["0" * 16] * 5
    assert done.stdout.split()[-1] == "lo"
    assert done.stderr.count("Read-only file system") == 3


def test_labels_variables_and_start_are_those_of_the_specification(built):
    config = built.config["config"]
    manifest = json.loads((built.root / "etc/holoscan/app.json").read_text())
    assert config["Labels"]["org.opencontainers.image.title"] == "busmap"
    assert config["Labels"]["org.opencontainers.image.version"] == manifest["version"]
    assert config["Entrypoint"] == [f"/usr/local/bin/{ENTRY_POINT}"]
    assert config["User"] == "1000:1000"
    assert config["WorkingDir"] == "/var/holoscan"
    names = "INPUT_PATH OUTPUT_PATH WORKDIR MODEL_PATH CONFIG_PATH APP_MANIFEST_PATH PKG_MANIFEST_PATH"
    for name in [*names.split(), "DOCS", "DOCS_PATH", "LOGS", "LOGS_PATH"]:
        place = built.root / built.environment[f"HOLOSCAN_{name}"].lstrip("/")
        assert place.exists(), name
    assert not (built.root / "etc/monai").exists()
    assert built.config["os"] == "linux"
    assert built.config["architecture"] == "amd64"
    done = built.container.run(["busmap", "--version"])
    assert done.stdout == f"busmap {manifest['version']}\n", done.stderr


def test_the_exit_status_of_the_application_is_that_of_the_container(built, tmp_path):
    empty, out = _folder(tmp_path / "in"), _folder(tmp_path / "out")
    done = built.container.run([ENTRY_POINT], [Mount(empty, IN), Mount(out, OUT, True)])
    assert done.returncode not in (0, 1), done.stderr
    assert done.stderr.startswith("busmap: ")
    assert "Traceback" not in done.stderr
    assert list(out.iterdir()) == []


def test_sigterm_ends_the_run_and_leaves_nothing(built, study, tmp_path):
    out = _folder(tmp_path / "out")
    command = built.container.command(
        [ENTRY_POINT], [Mount(study["cine of 30 frames"], IN), Mount(out, OUT, True)]
    )
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "loading the models" in line:
            break
    child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in child or [str(process.pid)]:
        subprocess.run(["kill", "-TERM", pid], check=True)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert "nothing was written" in process.stderr.read()
    assert list(out.iterdir()) == []


def test_the_node_is_ready_and_stops_on_sigterm(built, tmp_path):
    state = _folder(tmp_path / "state")
    command = built.container.command(
        [ENTRY_POINT, "serve"],
        [Mount(state, "/var/lib/busmap", True)],
        {"BUSMAP_GATEWAY__PORT": "0", "BUSMAP_WEB__PORT": "0"},
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: (state / "gateway.json").exists() and (state / "worker.json").exists(), "ready")
        child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in child or [str(process.pid)]:
            subprocess.run(["kill", "-TERM", pid], check=True)
        _, log = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert "Traceback" not in log


def test_the_image_is_small_and_its_parts_add_up(built):
    total = sum(path.lstat().st_size for path in built.root.rglob("*") if path.is_symlink() or path.is_file())
    assert total < LARGEST
    table = (built.folder / "sizes.md").read_text()
    parts = [float(size) for size in re.findall(r"\| ([\d.]+) \|", table)]
    assert sum(parts) == pytest.approx(total / 1e6, abs=0.1 * len(parts))


def test_the_list_of_files_is_that_of_the_image(built):
    done = subprocess.run(
        ["sha256sum", "--quiet", "--check", str(built.folder / "files.sha256")],
        cwd=built.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    listed = {line.split("  ", 1)[1] for line in (built.folder / "files.sha256").read_text().splitlines()}
    found = {
        str(path.relative_to(built.root))
        for path in built.root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert found == listed


def test_what_was_installed_is_told_with_hashes(built):
    docs = built.root / "opt/holoscan/docs"
    names, _ = wheels.read_names(tree.HERE / "python-packages.txt")
    lines = (docs / "python-packages.txt").read_text().splitlines()
    assert len(lines) == len(names)
    pinned = {
        one for pin in wheels.read_pins(tree.PROJECT / "requirements.txt").values() for one in pin.hashes
    }
    assert {line.split(" sha256:")[1] for line in lines} <= pinned
    packages = debian.read_names(tree.HERE / "debian-packages.txt")
    told = [line.split() for line in (docs / "debian-packages.txt").read_text().splitlines()]
    assert sorted(name for name, _, _ in told) == sorted(packages)
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for _, _, digest in told)
    status = (built.root / "var/lib/dpkg/status").read_text()
    assert {(name, version) for name, version, _ in told} == {
        (
            re.search("^Package: (.*)$", one, re.MULTILINE)[1],
            re.search("^Version: (.*)$", one, re.MULTILINE)[1],
        )
        for one in status.strip().split("\n\n")
    }


def test_every_link_leads_somewhere(built):
    look = "import os, sys\nfor d, ds, fs in os.walk('/usr'):\n for n in ds + fs:\n"
    look += "  p = os.path.join(d, n)\n  if os.path.islink(p) and not os.path.exists(p): print(p)"
    done = built.container.run(["python3", "-c", look])
    assert (done.stdout, done.returncode) == ("", 0)
    assert len(list((built.root / "usr/local/lib/python3.11/dist-packages/holoscan").rglob("*.so*"))) > 30


def test_two_builds_have_one_digest(built, tmp_path):
    again = build(tmp_path)
    assert archive.listing(again) == built.listing
    assert again.digest == built.digest


def test_other_tools_give_the_same_files(built, tmp_path):
    others = [tool for tool in engine.TOOLS if tool != engine.choose() and engine.answers(tool)]
    if not others:
        pytest.skip("one tool that assembles images answers here")
    for tool in others:
        other = build(_folder(tmp_path / tool), "--tool", tool)
        assert archive.listing(other) == built.listing, tool
