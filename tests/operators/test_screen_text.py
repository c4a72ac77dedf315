"""Side and clock position read off screens by Debian's tesseract, and what becomes of them in a report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from app.demo.studies import make_study, read_samples
from app.errors import AnalysisError
from app.node.analyst import Analyst
from app.settings import Settings
from operators import screen_text
from operators.compose_report import compose_report
from operators.findings import StudyResult
from operators.load_study import load_study
from operators.report.wording import site_text
from operators.screen_text import ScreenReader, StudyScreens, find_reader
from operators.select_frames import select_frames
from operators.site import Site, Source, joint_source, site_of
from tests.operators.conftest import AT
from tests.operators.rendered_labels import Label, render_label
from tests.operators.test_covered import write
from tests.programs import program
from tests.waiting import wait_until

LEFT, RIGHT = "7771000", "24028007"
TWO = "129773009"


def judged(labels: list[Label], reader: ScreenReader) -> tuple[int, int]:
    """How many labels are read right in side and hour, and how many wrong (unknown is neither)."""
    right = wrong = 0
    for label in labels:
        site = reader.read(label.grey)
        right += site == label.site
        wrong += site.laterality not in (None, label.site.laterality) or (
            site.clock_hour not in (None, label.site.clock_hour)
        )
    return right, wrong


@pytest.fixture(scope="module")
def reader(models) -> ScreenReader:
    program("tesseract")
    found = find_reader(models.marks)
    assert found is not None, "the program is there, its languages are not: make peers"
    return found


@pytest.mark.peers
def test_labels_are_read(reader):
    random = np.random.default_rng(5)
    right, wrong = judged([render_label(random) for _ in range(12)], reader)
    assert right >= 10
    assert wrong <= 1


@pytest.mark.peers
@pytest.mark.slow
def test_at_least_95_in_100_of_200_labels_are_read_and_hardly_one_wrong(reader):
    random = np.random.default_rng(2029)
    right, wrong = judged([render_label(random) for _ in range(200)], reader)
    assert right >= 190
    assert wrong <= 3


@pytest.mark.peers
def test_a_screen_without_a_label_says_nothing(reader):
    random = np.random.default_rng(1)
    speckle = np.clip(random.rayleigh(40, (300, 400)), 0, 255).astype(np.uint8)
    assert reader.read(speckle) == Site()
    assert reader.read(np.zeros((64, 80), np.uint8)) == Site()


def test_without_the_program_nothing_is_read(models, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert find_reader(models.marks) is None


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Callable[[str], Path]:
    """Puts a tesseract first on PATH that reads by `script`; answers the log of its starts."""

    def put(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        log, path = folder / "starts", folder / "tesseract"
        log.touch()
        answers = 'case "$1" in --list-langs) echo eng; exit;; --version) echo tesseract 9.9; exit;; esac'
        path.write_text(f'#!/bin/sh\necho $$ "$1" >> {log}\n{answers}\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return log

    return put


def starts(log: Path) -> list[str]:
    """How the program was started each time: its first argument."""
    return [line.split()[1] for line in log.read_text().splitlines()]


@pytest.mark.parametrize("script", ["exec sleep 600", "exit 3", "kill -9 $$"])
def test_what_a_program_that_hangs_or_fails_has_not_read_is_said(models, monkeypatch, stand_in, script):
    monkeypatch.setattr(screen_text, "TIME_LIMIT_SECONDS", 2)
    stand_in(script)
    screens = StudyScreens(find_reader(models.marks))
    assert screens.read(render_label(np.random.default_rng(4)).grey) == Site()
    (note,) = screens.notes
    assert "not read off the screen of 1 of 1 images" in note


def test_once_its_time_is_spent_no_more_screens_of_a_study_are_read(models, stand_in, tmp_path):
    log = stand_in("exec sleep 600")
    paths = [labelled_study(tmp_path / str(number), "LT BREAST 2:00 RAD")[0] for number in range(3)]
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number + 1}"
        dataset.StudyInstanceUID = "1.3"
        dataset.save_as(path)
    (study,) = load_study(paths)
    reader = find_reader(models.marks, study_seconds=2)
    selection = select_frames(study, reader=reader, maximum_frames_per_instance=8, maximum_frames_per_study=8)
    assert len(selection.frames) == 3
    assert starts(log).count("-") == 1, "the first took all the time"
    assert [one for one in selection.warnings if "not read off the screen of 3 of 3 images" in one]
    assert selection.screen_reader == "tesseract 9.9 (eng)"


def test_the_program_is_asked_once_what_it_can(models, stand_in):
    log = stand_in("exit 0")
    assert find_reader(models.marks) == find_reader(models.marks)
    assert starts(log) == ["--list-langs", "--version"]


def test_a_page_of_many_lines_is_not_read(models, stand_in):
    log = stand_in("echo LT BREAST")
    page = Image.new("L", (300, 24 * (screen_text.MAXIMUM_LINES + 10)))
    for line in range(page.height // 24):
        write(page, (8, 24 * line + 4), "LT BREAST 2:00 RAD", (None, 14), 230)
    reader = find_reader(models.marks)
    assert reader is not None
    assert reader.read(np.asarray(page)) is None
    assert reader.read(np.asarray(page)[:240]) == Site("L")
    assert "-" not in starts(log)[:2]


def analysis_of(paths: tuple[Path, ...], folder: Path) -> dict[str, object]:
    return {
        "paths": [str(path) for path in paths],
        "output_folder": str(folder),
        "composed_at": AT.isoformat(),
        "result_number": 1,
        "predecessor": None,
        "warnings": [],
    }


def test_a_program_that_hangs_dies_with_the_analysis(stand_in, tmp_path):
    log = stand_in("exec sleep 600")
    request = analysis_of(labelled_study(tmp_path / "study", "LT BREAST 2:00"), tmp_path / "out")
    analyst = Analyst(Settings(), "app.analyse")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(analyst.ask, request)
        wait_until(lambda: "-" in starts(log), "the program to be started")
        number = int(log.read_text().splitlines()[-1].split()[0])
        assert Path(f"/proc/{number}").exists()
        analyst.stop()
        wait_until(lambda: not alive(number), "the program to end")
        with pytest.raises(AnalysisError):
            asked.result()


def alive(number: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_reading_the_screen_can_be_switched_off(stand_in, tmp_path):
    log = stand_in("echo LT BREAST")
    request = analysis_of(labelled_study(tmp_path / "study", "LT BREAST 2:00"), tmp_path / "out")
    analyst = Analyst(Settings(analysis={"read_screen_text": False}), "app.analyse")
    try:
        analyst.ask(request)
    finally:
        analyst.stop()
    assert starts(log) == [], "with the default it is started: see the test above"
    said = json.loads((tmp_path / "out" / "result.json").read_text())
    assert said["screen_reader"] is None
    assert {one["laterality"] for one in said["lesions"]} == {None}


def labelled_study(folder: Path, words: str, *codes: str) -> tuple[Path, ...]:
    """One image whose strip above the region says `words` and whose header codes `codes`."""
    folder.mkdir(exist_ok=True)
    sample = next(one for one in read_samples() if one.name == "calibrated")
    (path,) = make_study(sample, folder, 1, AT).paths
    dataset = dcmread(path)
    picture = Image.fromarray(dataset.pixel_array)
    write(picture, (6, 4), words, (None, 15), 220)
    dataset.PixelData = np.asarray(picture).tobytes() + b"\0" * (picture.width * picture.height % 2)
    dataset.AnatomicRegionSequence = [modified(*codes)]
    dataset.save_as(path)
    return (path,)


def modified(*codes: str) -> Dataset:
    region = Dataset()
    region.AnatomicRegionModifierSequence = []
    for code in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", "x"
        region.AnatomicRegionModifierSequence.append(item)
    return region


@pytest.mark.peers
@pytest.mark.parametrize(
    ("codes", "expected", "notes"),
    [
        ((), ("L", 2, Source.SCREEN, Source.SCREEN), 0),
        ((LEFT,), ("L", 2, Source.BOTH, Source.SCREEN), 0),
        ((LEFT, TWO), ("L", 2, Source.BOTH, Source.BOTH), 0),
        ((RIGHT,), (None, 2, None, Source.SCREEN), 1),
    ],
)
def test_screen_and_header_together(reader, tmp_path, caplog, codes, expected, notes):
    (study,) = load_study(labelled_study(tmp_path / "study", "LT BREAST 2:00 RAD", *codes))
    limits = {"maximum_frames_per_instance": 8, "maximum_frames_per_study": 8}
    selection = select_frames(study, reader=reader, **limits)
    (frame,) = selection.frames
    stated = (frame.laterality, frame.clock_hour, frame.laterality_source, frame.clock_source)
    assert stated == expected
    assert sum("disagree" in one or "different" in one for one in selection.warnings) == notes
    assert "BREAST" not in caplog.text
    unread = select_frames(study, **limits).frames[0]
    assert (unread.clock_hour is None) == (TWO not in codes)


def test_header_and_screen_must_agree():
    nothing, left = modified(), modified(LEFT, TWO)
    assert site_of(left).laterality_source is Source.HEADER
    assert site_of(nothing, Site("R", 3)).site == Site("R", 3)
    assert site_of(left, Site("L", 2)).clock_source is Source.BOTH
    apart = site_of(left, Site("R", 3))
    assert apart.site == Site()
    assert (apart.laterality_source, apart.clock_source) == (None, None)
    assert len(apart.notes) == 2
    torn = site_of(modified(LEFT, RIGHT, TWO, "129774003"), Site("L", 2))
    assert torn.site == Site(), "what the header contradicts in itself, no screen decides"
    assert len(torn.notes) == 1


def test_the_report_names_the_source(analysed):
    lesion = analysed("malignant, two views").lesions[0]
    view = lesion.tracks[0].views[0]
    frame = dataclasses.replace(
        view.frame, laterality="L", laterality_source=Source.HEADER, clock_source=Source.SCREEN
    )
    track = dataclasses.replace(lesion.tracks[0], views=(dataclasses.replace(view, frame=frame),))
    placed = dataclasses.replace(lesion, tracks=(track,), laterality="L", clock_hour=2)
    assert site_text(placed) == "left breast (by header), 2 o'clock (by screen text)"
    assert site_text(dataclasses.replace(placed, clock_hour=None)) == "left breast (by header)"
    assert site_text(lesion) == "side not stated"
    assert joint_source([Source.HEADER, None, Source.SCREEN]) is Source.BOTH


def placed(result: StudyResult, sides: Source, hours: Source) -> StudyResult:
    """The result as if its first lesion were said to be at 2 o'clock of the left breast."""
    lesion = result.lesions[0]
    view = lesion.tracks[0].views[0]
    frame = dataclasses.replace(
        view.frame, laterality="L", clock_hour=2, laterality_source=sides, clock_source=hours
    )
    track = dataclasses.replace(lesion.tracks[0], views=(dataclasses.replace(view, frame=frame),))
    lesion = dataclasses.replace(lesion, tracks=(track,), laterality="L", clock_hour=2)
    return dataclasses.replace(
        result, lesions=(lesion,), frames=(frame,), screen_reader="tesseract 9.9 (eng)"
    )


@pytest.mark.parametrize(
    ("sides", "hours", "coded"),
    [
        (Source.SCREEN, Source.SCREEN, set()),
        (Source.HEADER, Source.SCREEN, {LEFT}),
        (Source.BOTH, Source.BOTH, {LEFT, TWO}),
    ],
)
def test_what_the_screen_alone_says_is_said_in_words_and_not_coded(analysed, context, sides, hours, coded):
    bare = analysed("calibrated")
    report = compose_report(placed(bare, sides, hours), context)
    sr, *captures = [one.dataset for one in report.objects]
    text = sr.to_json()
    assert {code for code in (LEFT, TWO) if f'"{code}"' in text} == coded
    assert "2 o'clock" in text
    assert f"(by {hours})" in text
    assert "tesseract 9.9 (eng)" in text
    assert {one.Laterality for one in captures} <= {"", "L" if coded else ""}
    (lesion,) = report.summary["lesions"]
    assert (lesion["laterality_source"], lesion["clock_hour_source"]) == (sides, hours)
    assert json.loads(json.dumps(report.summary)) == report.summary
    plain = compose_report(bare, context)
    assert not {one.sop_instance_uid for one in plain.objects} & {
        one.sop_instance_uid for one in report.objects
    }
