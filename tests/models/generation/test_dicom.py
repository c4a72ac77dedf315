"""Generated studies: synthetic in every header, read by the product, the same from the same rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image  # noqa: E402
from pydicom import dcmread  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.data.record import DataError  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.dicom import (  # noqa: E402
    DATE,
    SIDE,
    STRIP,
    GeneratedStudy,
    plan_studies,
    shown,
    view_dataset,
)
from models.generation.draw import Asked, Row  # noqa: E402
from models.generation.flow import Solver  # noqa: E402
from models.generation.golden import make_golden, write_set  # noqa: E402
from models.generation.manifest import differences, read_manifest, sha256_of  # noqa: E402
from models.generation.nearest import NearIndex, pixel_vectors  # noqa: E402
from models.generation.repository import Shard, fill, picture_paths, read_rows  # noqa: E402
from operators.eligibility import made_by_busmap  # noqa: E402
from operators.load_study import find_input_files, load_study  # noqa: E402
from operators.select_frames import select_frames  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
SOLVER = Solver(steps=1)


def row(index: int, **more) -> Row:
    usual = {
        "seed": 1000 + index,
        "lesion_class": "benign",
        "device": "GE Logiq 5",
        "birads": "3",
        "histology": "cyst",
        "lesions": 1,
        "zoom": 0.8,
        "callipers": False,
        "text": False,
        "steps": 1,
        "guidance": 1.0,
        "guided_from": 0.1,
        "guided_to": 0.9,
        "rejected": 0,
        "adapter": "",
        "model": "a" * 64,
    }
    return Row(index=index, **{**usual, **more})


def speckle(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (128, 128), np.uint8)


@pytest.fixture(scope="module")
def repository(generator, tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn")
    asked = Asked(0.2, devices=("GE Logiq 5",), callipers_share=0.2, text_share=0.2)
    fill(generator, out, asked, SOLVER, 5, Shard(0, 12))
    return out


@pytest.fixture(scope="module")
def studies(repository, tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "set"
    write_set(repository, out)
    return out


ROWS = st.lists(
    st.tuples(st.integers(0, 2**62), st.sampled_from(["benign", "malignant", "no lesion"]), st.booleans()),
    max_size=30,
)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_every_unmarked_row_is_in_one_study(drawn):
    rows = [row(i, seed=seed, lesion_class=name, text=text) for i, (seed, name, text) in enumerate(drawn)]
    planned = list(plan_studies(rows))
    used = [one.index for study in planned for one in study.rows]
    assert sorted(used) == [one.index for one in rows if not one.text]
    assert [study.number for study in planned] == list(range(1, len(planned) + 1))
    for study in planned:
        assert 1 <= len(study.rows) <= 2
        assert len({one.lesion_class for one in study.rows}) == 1
        assert study.laterality in "LR"
        assert 1 <= study.clock_hour <= 12


def as_promised(rows: list[Row]) -> list[list[int]]:
    """Which rows make which study, looked for one by one."""
    waiting, studies = [one for one in rows if not one.text], []
    while waiting:
        first = waiting.pop(0)
        views = [first]
        twin = next((one for one in waiting if one.lesion_class == first.lesion_class), None)
        if twin is not None and np.random.default_rng([3, first.seed]).random(3)[0] < 0.5:
            waiting.remove(twin)
            views.append(twin)
        studies.append([one.index for one in views])
    return studies


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_the_second_view_is_the_next_of_its_class(drawn):
    rows = [row(i, seed=seed, lesion_class=name, text=text) for i, (seed, name, text) in enumerate(drawn)]
    assert [[one.index for one in study.rows] for study in plan_studies(rows)] == as_promised(rows)


class Counted(str):
    """A class that counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Counted.compared += 1
        return str.__eq__(self, other)


def test_planning_grows_with_the_rows_and_not_with_their_square():
    rows = [row(i, lesion_class=Counted(f"class {i}")) for i in range(300)]
    assert len(list(plan_studies(rows))) == 300
    assert Counted.compared < 10 * 300


@given(st.integers(0, 2**62), st.integers(0, 2**62))
@settings(max_examples=30, deadline=None)
def test_uids_follow_from_the_rows_alone(one, other):
    def uids(seed: int, number: int) -> tuple[str, ...]:
        study = GeneratedStudy(number, (row(1, seed=seed),), "L", 3, cine=False)
        made = view_dataset(study, 1, speckle())
        return made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID

    assert uids(one, 1) == uids(one, 2)
    assert len(set(uids(one, 1))) == 3
    assert all(uid.startswith("2.25.") and len(uid) <= 64 and uid[5] != "0" for uid in uids(one, 1))
    assert bool(set(uids(one, 1)) & set(uids(other, 1))) == (one == other)


def test_headers_say_that_there_is_no_patient(studies, repository):
    drawn = {one.index: one for one in read_rows(repository)}
    for entry in read_manifest(studies)["files"]:
        if not entry["path"].endswith(".dcm"):
            continue
        made = dcmread(studies / entry["path"])
        assert made.SyntheticData == "YES"
        assert str(made.PatientName).startswith("GENERATED^")
        assert made.PatientID.startswith("GENERATED-")
        assert (made.StudyDate, made.PatientBirthDate, made.BurnedInAnnotation) == (DATE, "", "NO")
        assert made.ImageType == ["DERIVED", "SECONDARY"]
        assert "no patient" in made.SeriesDescription
        assert made.ImageComments.startswith("Generated, no patient")
        assert "PatientIdentityRemoved" not in made
        assert "DeidentificationMethod" not in made
        assert made.ContributingEquipmentSequence[0].Manufacturer == "busmap generator"
        assert not made_by_busmap(made)
        assert made.StudyInstanceUID == entry["study_instance_uid"]
        assert drawn[entry["index"]].model[:16] in made.ImageComments


def test_nothing_is_burnt_into_the_region(studies, repository):
    stills = 0
    for entry in read_manifest(studies)["files"]:
        if not entry["path"].endswith(".dcm"):
            continue
        made = dcmread(studies / entry["path"])
        pixels = made.pixel_array if "NumberOfFrames" in made else made.pixel_array[None]
        region = made.SequenceOfUltrasoundRegions[0]
        top, bottom = region.RegionLocationMinY0, region.RegionLocationMaxY1 + 1
        assert (top, bottom, pixels.shape[1:]) == (STRIP, STRIP + SIDE, (STRIP + SIDE, SIDE))
        assert pixels[:, :top].max() > 150  # the note
        image, _ = picture_paths(repository, entry["index"])
        grey = np.asarray(Image.open(image))
        frames = shown(grey, Image.Resampling.BICUBIC, cine=len(pixels) > 1)
        assert np.array_equal(pixels[:, top:bottom], np.stack(frames))
        outline = np.asarray(Image.open(studies / entry["outline"]))
        assert outline.shape == pixels.shape[1:]
        assert outline.any() == (entry["lesions"] > 0) or len(pixels) > 1
        stills += len(pixels) == 1
    assert stills


def test_painted_marks_are_left_out(studies, repository):
    rows = read_rows(repository)
    marked = {one.index for one in rows if one.callipers or one.text}
    used = {entry["index"] for entry in read_manifest(studies)["files"] if "index" in entry}
    assert marked
    assert used == {one.index for one in rows} - marked


def test_the_same_repository_gives_the_same_files(studies, repository, tmp_path):
    write_set(repository, tmp_path / "again")
    assert (tmp_path / "again" / "manifest.json").read_bytes() == (studies / "manifest.json").read_bytes()
    with pytest.raises(DataError, match="is not empty"):
        write_set(repository, tmp_path / "again")


def test_a_cine_moves_and_keeps_its_scale():
    study = GeneratedStudy(1, (row(1),), "R", 12, cine=True)
    made = view_dataset(study, 1, speckle())
    frames = made.pixel_array
    assert len(frames) == made.NumberOfFrames > 2
    assert not np.array_equal(frames[0], frames[1])
    still = view_dataset(replace(study, cine=False), 1, speckle())
    scale = [one.SequenceOfUltrasoundRegions[0].PhysicalDeltaX for one in (made, still)]
    assert scale[0] == pytest.approx(0.9 * scale[1], rel=1e-3)
    assert scale[1] == pytest.approx(0.8 * 4 / SIDE, rel=1e-3)


@pytest.mark.peers
@pytest.mark.parametrize("cine", [False, True])
def test_dciodvfy_finds_nothing(tmp_path, cine):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed: make peers")
    study = GeneratedStudy(1, (row(1), row(2)), "L", 2, cine=cine)
    for view in (1, 2):
        path = tmp_path / f"{view}.dcm"
        view_dataset(study, view, speckle(view)).save_as(path, enforce_file_format=True)
        done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
        remarks = [line for line in done.stderr.splitlines() if line.startswith(("Error", "Warning"))]
        # Synthetic Data is younger than Debian's dciodvfy.
        assert [line for line in remarks if "(0008,001c)" not in line] == []


def test_the_product_reads_the_studies(studies):
    read = load_study(find_input_files(studies))
    assert len(read) == len(list(studies.glob("[0-9]*")))
    for study in read:
        assert not study.set_aside
        assert not study.warnings
        selection = select_frames(study, maximum_frames_per_instance=10, maximum_frames_per_study=20)
        assert {one.sop_instance_uid for one in study.instances} == {
            frame.instance.sop_instance_uid for frame in selection.frames
        } | {aside.sop_instance_uid for aside in selection.set_aside}
        for frame in selection.frames:
            assert frame.region.calibrated
            assert (frame.laterality in ("L", "R"), frame.clock_hour is not None) == (True, True)


def test_two_studies_go_through_the_one_shot_run(studies, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number in (1, 2):
        shutil.copytree(studies / f"{number:04d}", source / str(number))
    done = subprocess.run(
        [sys.executable, "-m", "app", "-i", source, "-o", tmp_path / "out"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "GENERATED^" not in done.stderr
    results = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("result.json")]
    assert results
    made = [dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    assert {str(one.PatientName) for one in made} == {"GENERATED^0001", "GENERATED^0002"}


def test_a_golden_set_is_drawn_locked_and_checked(generator, tmp_path):
    digest = make_golden(generator, tmp_path / "golden", 7, SOLVER, studies=3)
    assert digest == sha256_of(tmp_path / "golden" / "manifest.json")
    assert len(list((tmp_path / "golden").glob("[0-9]*"))) == 3
    assert make_golden(generator, tmp_path / "again", 7, SOLVER, studies=3) == digest
    assert differences(tmp_path / "golden") == []
    victim = tmp_path / "golden" / "0001" / "1.dcm"
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    (tmp_path / "golden" / "0002" / "1.png").unlink()
    (tmp_path / "golden" / "more.dcm").write_bytes(b"")
    found = differences(tmp_path / "golden")
    assert found == [
        "0002/1.png is missing",
        "more.dcm is not in the manifest",
        "0001/1.dcm is changed",
    ]
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "golden")])
    assert result.exit_code == 1
    assert "3 differences" in result.output


def test_a_golden_set_keeps_away_from_training_pictures(generator, tmp_path):
    some = pixel_vectors(np.random.default_rng(1).integers(0, 256, (2, 64, 64), dtype=np.uint8))
    free = make_golden(generator, tmp_path / "free", 7, SOLVER, studies=2)
    far = NearIndex(some, {"lesion": 0.0, "tissue": 0.0}, "far")
    assert make_golden(generator, tmp_path / "far", 7, SOLVER, far, studies=2) == free
    with pytest.raises(DataError, match="too near"):
        make_golden(
            generator,
            tmp_path / "near",
            7,
            SOLVER,
            NearIndex(some, {"lesion": 2.1, "tissue": 2.1}, "near"),
            studies=2,
        )


def test_a_set_too_large_is_none(generator, tmp_path, monkeypatch):
    monkeypatch.setattr("models.generation.golden.MAXIMUM_BYTES", 1000)
    with pytest.raises(DataError, match="at most 1000"):
        make_golden(generator, tmp_path / "golden", 7, SOLVER, studies=2)
    assert not [*tmp_path.iterdir()], "nothing is left, hidden or not"


def test_a_folder_in_use_is_refused_before_anything_is_drawn(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        make_golden(None, tmp_path, 7, SOLVER)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_verb_writes_studies(repository, tmp_path):
    result = CliRunner().invoke(app, ["dicom", str(repository), str(tmp_path / "out"), "--most", "2"])
    assert result.exit_code == 0, result.output
    assert "Studies: 2" in result.output
    assert differences(tmp_path / "out") == []
    empty = CliRunner().invoke(app, ["dicom", str(tmp_path), str(tmp_path / "none")])
    assert empty.exit_code == 10
