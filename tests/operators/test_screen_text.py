"""Side and clock position read off screens by Debian's tesseract, and what becomes of them in a report."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from app.demo.studies import make_study, read_samples
from app.settings import Settings
from operators import screen_text
from operators.load_study import load_study
from operators.report.wording import site_text
from operators.screen_text import ScreenReader, find_reader
from operators.select_frames import select_frames
from operators.site import Site, Source, joint_source, site_of
from tests.operators.conftest import AT
from tests.operators.rendered_labels import Label, render_label
from tests.operators.test_covered import write
from tests.programs import program

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


def test_a_program_that_hangs_or_fails_says_nothing(models, monkeypatch, tmp_path):
    label = render_label(np.random.default_rng(4))
    script_path = tmp_path / "tesseract"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(screen_text, "TIME_LIMIT_SECONDS", 0.5)
    for script in ("exec sleep 60", "exit 3", "kill -9 $$"):
        script_path.write_text(f"#!/bin/sh\n{script}\n")
        script_path.chmod(0o755)
        started = time.monotonic()
        assert ScreenReader(models.marks, "eng").read(label.grey) == Site()
        assert time.monotonic() - started < 20


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


def test_reading_the_screen_can_be_switched_off():
    assert Settings().analysis.read_screen_text
    assert not Settings(analysis={"read_screen_text": False}).analysis.read_screen_text
