"""The one-shot contract, as a host meets it: a process, a folder in, a folder out, an exit status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from app.demo.studies import make_study, read_samples
from app.errors import OutputError
from app.stopping import Stoppable
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of DICOM files for each sample study."""
    root = tmp_path_factory.mktemp("studies")
    root.chmod(0o755)
    folders = {}
    for number, sample in enumerate(read_samples(), start=1):
        folders[sample.name] = root / str(number)
        folders[sample.name].mkdir()
        make_study(sample, folders[sample.name], number, datetime(2026, 5, 4, 8, 0))
    return folders


def _run(
    *arguments: object, before: tuple[str, ...] = (), environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the module; `before` is put before the command, `environment` over ours without busmap's."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("BUSMAP_")}
    return subprocess.run(
        [*before, sys.executable, "-m", "app", *map(str, arguments)],
        cwd=ROOT,
        env={**clean, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _assert_refused(done: subprocess.CompletedProcess[str], code: str, *words: str) -> None:
    assert done.returncode not in (0, 1, 70), done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert f"busmap: {code}:" in last
    for word in words:
        assert word in last
    assert "Traceback" not in done.stderr


def test_a_study_gives_objects_facts_and_a_page(studies, tmp_path):
    out = tmp_path / "out"
    before = {path: path.read_bytes() for path in studies["benign, two views"].iterdir()}
    done = _run("-i", studies["benign, two views"], "-o", out)
    assert done.returncode == 0, done.stderr
    facts = json.loads((out / "result.json").read_text())
    assert facts["status"] == "findings"
    assert "Research use" in facts["disclaimer"]
    for one in facts["objects"]:
        dataset = dcmread(out / one["file"])
        assert dataset.SOPInstanceUID == one["sop_instance_uid"]
    assert json.loads((out / "metadata.json").read_text())["lesions"] == 1
    assert (out / "report.html").is_file()
    assert {path: path.read_bytes() for path in studies["benign, two views"].iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_any_user_a_read_only_input_and_a_hosts_mount(studies, open_folder):
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("taking another user's id needs root and setpriv")
    source, out, scratch = open_folder / "in", open_folder / "out", open_folder / "scratch"
    shutil.copytree(studies["benign, two views"], source)
    for path in (source, *source.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    out.mkdir()
    scratch.mkdir()
    for folder in (out, scratch):
        os.chown(folder, 12345, 12345)
    # A user without an entry in /etc/passwd, who may read as the container's host lets it, and write nothing.
    reading = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    done = _run(
        before=("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", *reading),
        environment={
            "HOLOSCAN_INPUT_PATH": str(source),
            "HOLOSCAN_OUTPUT_PATH": str(out),
            "TMPDIR": str(scratch),
            "HOME": "/nonexistent",
        },
    )
    assert done.returncode == 0, done.stderr
    assert (out / "result.json").is_file()
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert list(scratch.iterdir()) == []


def test_nothing_usable_is_a_result(studies, tmp_path):
    done = _run("-i", studies["not breast ultrasound"], "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "metadata.json").read_text())["status"] == "nothing-usable"


def test_two_studies_in_one_folder_are_two_results(studies, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("benign, two views", "colour JPEG"):
        for path in studies[name].iterdir():
            shutil.copy(path, source)
    done = _run("-i", source, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(facts["studies"]) == 2
    assert all((tmp_path / "out" / one["file"]).is_file() for one in facts["objects"])
    assert len({dcmread(tmp_path / "out" / one["file"]).StudyInstanceUID for one in facts["objects"]}) == 2


def _changed(source: Path, target: Path, **values: object) -> None:
    dataset: Dataset = dcmread(source)
    for keyword, value in values.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(target)


def test_no_dicom_is_told(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "letter.dcm").write_text("Dear colleague")
    done = _run("-i", source, "-o", tmp_path / "out")
    _assert_refused(done, "input-no-study", "DICOM")
    assert not (tmp_path / "out").exists()


def test_two_patients_under_one_study_are_told_without_their_names(studies, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    first, second = sorted(studies["benign, two views"].iterdir())
    shutil.copy(first, source / "1.dcm")
    _changed(second, source / "2.dcm", PatientID="OTHER", PatientName="Canary^Clara")
    done = _run("-i", source, "-o", tmp_path / "out")
    _assert_refused(done, "input-mixed-patients", "two patients", "correct")
    assert "Canary" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_study_of_two_patients_keeps_no_other_from_its_result(studies, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    good = sorted(studies["colour JPEG"].iterdir())
    for path in (*good, *studies["benign, two views"].iterdir()):
        shutil.copy(path, source)
    _changed(
        source / sorted(studies["benign, two views"].iterdir())[1].name, source / "x.dcm", PatientID="OTHER"
    )
    done = _run("-i", source, "-o", tmp_path / "out")
    _assert_refused(done, "studies-failed", "1 of 2 studies", "two patients", "the other results are written")
    assert done.returncode == 14
    facts = json.loads((tmp_path / "out" / "result.json").read_text())
    bad = dcmread(sorted(studies["benign, two views"].iterdir())[0]).StudyInstanceUID
    assert [(one["study_instance_uid"], one["code"]) for one in facts["failed"]] == [
        (bad, "input-mixed-patients")
    ]
    assert {dcmread(tmp_path / "out" / one["file"]).StudyInstanceUID for one in facts["objects"]} == {
        dcmread(good[0]).StudyInstanceUID
    }
    metadata = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert (metadata["studies"], metadata["analysed"], metadata["failed"]) == (2, 1, 1)


def test_where_no_study_can_be_analysed_all_are_told_and_nothing_is_written(studies, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number, name in enumerate(("colour JPEG", "benign, two views")):
        first = sorted(studies[name].iterdir())[0]
        shutil.copy(first, source / f"{number}.dcm")
        _changed(first, source / f"{number}-other.dcm", PatientID="OTHER")
    done = _run("-i", source, "-o", tmp_path / "out")
    _assert_refused(done, "studies-failed", "2 of 2 studies", "nothing was written")
    assert not (tmp_path / "out").exists()


def test_missing_study_uid_is_told(studies, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    _changed(sorted(studies["colour JPEG"].iterdir())[0], source / "1.dcm", StudyInstanceUID=None)
    _assert_refused(_run("-i", source, "-o", tmp_path / "out"), "input-no-study", "StudyInstanceUID")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Modality": "CT"}, "wrong-modality"),
        ({"PixelData": None}, "not-an-image"),
        ({"BodyPartExamined": "LIVER"}, "not-breast"),
    ],
)
def test_what_cannot_be_analysed_is_in_the_report(studies, tmp_path, change, reason):
    source = tmp_path / "in"
    source.mkdir()
    _changed(sorted(studies["benign, two views"].iterdir())[0], source / "1.dcm", **change)
    done = _run("-i", source, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [one["reason"] for one in facts["set_aside"]] == [reason]
    assert facts["objects"], "an honest report, not silence"


def test_truncated_pixels_are_in_the_report(studies, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    content = sorted(studies["benign, two views"].iterdir())[0].read_bytes()
    (source / "1.dcm").write_bytes(content[:-20000])
    done = _run("-i", source, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out" / "result.json").read_text())
    assert facts["status"] == "nothing-usable"
    assert facts["set_aside"]


def test_an_output_that_holds_something_is_refused(studies, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("keep me")
    done = _run("-i", studies["colour JPEG"], "-o", tmp_path / "out")
    _assert_refused(done, "output-unwritable", "empty")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old.txt"]


def test_a_machine_without_a_writable_temporary_folder_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match="--tmpfs /tmp"), Stoppable().scratch():
        pass


def test_missing_folders_and_settings_are_told(tmp_path):
    _assert_refused(_run(), "settings-invalid", "-i FOLDER")
    _assert_refused(_run("-i", tmp_path / "none", "-o", tmp_path / "out"), "input-no-study", "-i")
    done = _run("-i", tmp_path, "-o", tmp_path / "out", environment={"BUSMAP_GATEWAY__PRT": "1"})
    _assert_refused(done, "settings-invalid", "BUSMAP_GATEWAY__PORT")


@pytest.mark.parametrize("variable", ["BUSMAP_ANALYSIS__MODEL_FOLDER", "HOLOSCAN_MODEL_PATH"])
def test_a_changed_model_is_refused(studies, tmp_path, variable):
    from models.runtime.bundle import SHIPPED

    shutil.copytree(SHIPPED, tmp_path / "bundles")
    weights = tmp_path / "bundles" / "breast_us_lesion" / "models" / "model.onnx"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    done = _run(
        "-i",
        studies["colour JPEG"],
        "-o",
        tmp_path / "out",
        environment={variable: str(tmp_path / "bundles")},
    )
    _assert_refused(done, "model-untrusted", "breast_us_lesion/models/model.onnx", "reinstall")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_nothing(studies, tmp_path, number):
    """The signal falls into the graph, whose end a long cine puts far off."""
    source, out, scratch = tmp_path / "in", tmp_path / "out", tmp_path / "scratch"
    source.mkdir()
    scratch.mkdir()
    [cine] = [one for one in read_samples() if one.name == "cine of 30 frames"]
    make_study(cine, source, 1, datetime(2026, 5, 4, 8, 0), cine_frames=300)
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "-i", source, "-o", out],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "analysing study 1" in line:
            break
    # From here on the graph, and with it the SDK's own handlers; Python itself catches no SIGTERM.
    wait_until(lambda: process.poll() is not None or _catches(process.pid, signal.SIGTERM), "the graph")
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "nothing was written" in said
    assert not out.exists()
    assert list(scratch.iterdir()) == []


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_what_is_written_while_a_run_ends_stays_nowhere(tmp_path):
    """A thread that writes on, as the graph's do, while the folder is removed."""
    program = """
import os, signal, sys, threading
from app.stopping import Stoppable
sys.setswitchinterval(1e-6)
with Stoppable() as stoppable, stoppable.scratch() as scratch:
    def keep_on(name):
        number = 0
        while True:
            number += 1
            try:
                (scratch / f"{name}-{number}").touch()
            except OSError:
                pass
    for name in range(4):
        threading.Thread(target=keep_on, args=(name,), daemon=True).start()
    while len(os.listdir(scratch)) < 2000:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert list(tmp_path.iterdir()) == []
