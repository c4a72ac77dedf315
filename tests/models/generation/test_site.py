"""Adaptation to a site's own studies: read by what ships, marks gone, nothing of them left behind."""

from __future__ import annotations

import json
import stat
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from pydicom import dcmread  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from app.demo.studies import make_study, read_samples  # noqa: E402
from models.data.record import DataError  # noqa: E402
from models.generation.adapter import ADAPTER  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.conditions import DEVICES  # noqa: E402
from models.generation.frames import frames_hash  # noqa: E402
from models.generation.site import site_frames  # noqa: E402
from tests.models.generation.test_adapt import short  # noqa: E402

NAME = "Geheim^Anna"


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A study of two views of a patient with a name."""
    folder = tmp_path_factory.mktemp("site")
    sample = next(one for one in read_samples() if one.kind == "still" and len(one.files) == 2)
    made = make_study(sample, folder, 1, datetime(2026, 5, 4, 8, 0))
    for path in made.paths:
        dataset = dcmread(path)
        dataset.PatientName, dataset.PatientID = NAME, "SECRET-1"
        dataset.save_as(path)
    return folder


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_the_shipped_model_outlines_and_nothing_is_left_behind(studies, tmp_path, stage, monkeypatch):
    import models.generation.adapt as module

    before = sorted(studies.rglob("*"))
    monkeypatch.setattr(module, "AdaptSettings", short)
    run = ["adapt", "--base", stage / "product", "--studies", studies, "--out", tmp_path / "run"]
    result = CliRunner().invoke(app, list(map(str, run)))
    assert result.exit_code == 0, result.output
    assert "pictures of 1 patients" in result.output
    assert (tmp_path / "run" / ADAPTER).exists()
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["frames_sha256"] == frames_hash(site_frames(studies, None, "unknown", "unknown", 1).frames)
    assert sorted(studies.rglob("*")) == before
    assert not [*(tmp_path / "run").rglob("*.np*"), *(tmp_path / "run").rglob("*.png")]
    left = everything(tmp_path / "run") + result.output.encode()
    uids = [dcmread(path).SOPInstanceUID for path in studies.glob("*.dcm")]
    for secret in ("Geheim", "SECRET-1", *uids):
        assert secret.encode() not in left


def test_given_outlines_are_taken(studies, tmp_path):
    path = sorted(studies.glob("*.dcm"))[0]
    image = dcmread(path)
    mask = np.zeros((image.Rows, image.Columns), bool)
    mask[100:160, 80:150] = True
    Image.fromarray(mask).save(tmp_path / f"{image.SOPInstanceUID}.png")
    found = site_frames(studies, tmp_path, "GE Logiq 5", "unknown", 1)
    assert found.patients == ("0",)
    lesion = found.frames.labels[:, 0] == 0
    assert lesion.sum() == 8
    assert found.frames.mask[lesion].any((1, 2)).all()
    assert set(found.frames.labels[:, 1]) == {DEVICES.index("GE Logiq 5")}
    Image.fromarray(mask[:-5]).save(tmp_path / f"{image.SOPInstanceUID}.png")
    with pytest.raises(DataError, match="draw it on the whole image"):
        site_frames(studies, tmp_path, "unknown", "unknown", 1)
    assert not (studies / ".busmap-adapt").exists()


def test_nothing_is_written_beside_the_studies(studies, tmp_path, monkeypatch):
    """A folder that may only be read serves; what is handed over is nobody else's to read, and goes."""
    before, modes = studies.stat(), []
    run = subprocess.run

    def watched(command, **options):
        done = run(command, **options)
        handed = Path(command[4])
        modes.append((handed.exists(), stat.S_IMODE(handed.parent.stat().st_mode), handed.parent.parent))
        return done

    monkeypatch.setattr("models.generation.site.subprocess.run", watched)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    studies.chmod(0o555)
    try:
        assert site_frames(studies, None, "unknown", "unknown", 1).patients
    finally:
        studies.chmod(stat.S_IMODE(before.st_mode))
    assert modes == [(True, 0o700, tmp_path)]
    assert not list(tmp_path.iterdir())
    assert studies.stat().st_mtime_ns == before.st_mtime_ns, "no entry came or went, also where root reads"


def test_a_folder_without_studies_is_told(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="holds no file that could be DICOM"):
        site_frames(tmp_path / "in", None, "unknown", "unknown", 1)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Traceback (most recent call last):\nValueError: Geheim^Anna", "gave no reason that can be shown"),
        ("busmap: input-unusable: no frame\nwarning: Geheim^Anna", "busmap: input-unusable: no frame"),
        ("Geheim^Anna: busmap: x: y", "gave no reason that can be shown"),
        ("", "gave no reason that can be shown"),
    ],
)
def test_only_what_was_written_for_a_reader_is_passed_on(tmp_path, monkeypatch, said, told):
    failed = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr("models.generation.site.subprocess.run", lambda *a, **k: failed)
    with pytest.raises(DataError) as refused:
        site_frames(tmp_path, None, "unknown", "unknown", 1)
    assert str(refused.value).endswith(told)
    assert "Geheim" not in str(refused.value)


def test_broken_files_are_counted_with_their_reason(studies, tmp_path):
    for path in studies.glob("*.dcm"):
        whole = path.read_bytes()
        (tmp_path / path.name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"has an outline \(set aside: 2 [a-z-]+\): give studies"):
        site_frames(tmp_path, None, "unknown", "unknown", 1)


def test_other_outlines_are_other_examples(studies, tmp_path):
    """What is learned is known by its pixels: a corrected outline is not taken for the first one."""
    path = sorted(studies.glob("*.dcm"))[0]
    image = dcmread(path)
    digests = []
    for bottom in (160, 160, 150):
        mask = np.zeros((image.Rows, image.Columns), bool)
        mask[100:bottom, 80:150] = True
        Image.fromarray(mask).save(tmp_path / f"{image.SOPInstanceUID}.png")
        digests.append(frames_hash(site_frames(studies, tmp_path, "unknown", "unknown", 1).frames))
    assert digests[0] == digests[1] != digests[2]


def test_a_base_that_is_none_is_told_before_the_studies_are_read(studies, tmp_path):
    run = ["adapt", "--base", tmp_path / "nope", "--studies", studies, "--out", tmp_path / "run"]
    refused = CliRunner().invoke(app, list(map(str, run)))
    assert refused.exit_code == 10
    assert "give the folder of a generator" in " ".join(refused.output.split())
    assert not (tmp_path / "run").exists()


def test_examples_come_from_one_place(tmp_path, stage):
    run = ["adapt", "--base", str(stage / "product"), "--out", str(tmp_path)]
    for more in ([], ["--data", "x", "--studies", "y"]):
        assert CliRunner().invoke(app, [*run, *more]).exit_code == 2
