"""Burnt-in marks: painted ones are found and covered, tissue is left alone, at any size of picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from models.runtime.loaded import load_marks, marks_bundle
from models.runtime.marks import MarkModel
from models.training.marks import Style
from validation.found_marks import (
    LABELS,
    Calliper,
    Found,
    is_found,
    paint_callipers,
    read_labels,
    recall,
    recall_lines,
)


@pytest.fixture(scope="module")
def model() -> MarkModel:
    return load_marks(marks_bundle(None), 1)


def tissue(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.standard_normal((rows, columns)), (1, 2))
    return np.clip(70 + 60 * smooth, 0, 255).astype(np.uint8)


def test_painted_callipers_of_every_style_are_found(model):
    random = np.random.default_rng(1)
    found = []
    for number, style in enumerate(tuple(Style) * 6):
        painted, callipers = paint_callipers(tissue(240, 300, number), style, random)
        mask = model.find(painted).mask
        found += [is_found(mask, one) for one in callipers]
    assert np.mean(found) >= 0.9


@settings(max_examples=25, deadline=None)
@given(st.integers(9, 130), st.integers(9, 130), st.integers(0, 99))
def test_a_picture_of_any_size_keeps_its_pixels_away_from_marks(model, rows, columns, seed):
    grey = tissue(rows, columns, seed)
    covered = model.cover(grey)
    assert covered.grey.shape == covered.marks.mask.shape == covered.marks.blocks.shape == grey.shape
    assert np.array_equal(covered.grey[~covered.marks.blocks], grey[~covered.marks.blocks])
    assert not (covered.marks.mask & ~covered.marks.blocks).any()


def test_tissue_alone_has_next_to_no_marks(model):
    taken = [model.find(tissue(240, 300, seed)).mask.mean() for seed in range(6)]
    assert np.mean(taken) < 0.002


def test_words_are_one_block_and_known_for_text(model):
    picture = Image.fromarray(tissue(200, 320))
    ImageDraw.Draw(picture).text((40, 90), "MUELLER EVA", fill=220, font=ImageFont.load_default(size=16))
    marks = model.find(np.asarray(picture))
    assert marks.text
    assert not model.find(tissue(200, 320)).text
    labels, _ = ndimage.label(marks.blocks)
    widths = [box[1].stop - box[1].start for box in ndimage.find_objects(labels)]
    assert max(widths) > 80


def test_the_truth_of_painted_callipers_is_seeded():
    grey = tissue(120, 160)
    for style in Style:
        once, again = (paint_callipers(grey, style, np.random.default_rng(4)) for _ in range(2))
        assert np.array_equal(once[0], again[0])
        assert once[1] == again[1]
        assert {one.style for one in once[1]} == {style.value}
        assert (once[0] != grey).any()


def test_found_means_covered_at_the_place():
    mask = np.zeros((60, 60), bool)
    mask[28:33, 28:33] = True
    assert is_found(mask, Calliper("upright", ((30.0, 30.0),)))
    assert not is_found(mask, Calliper("upright", ((45.0, 30.0),)))
    here, there, away = (28.0, 30.0), (33.0, 30.0), (45.0, 30.0)
    assert is_found(mask, Calliper("dotted", (here, there, away)))
    assert not is_found(mask, Calliper("dotted", (here, away, (5.0, 5.0))))


def test_recall_goes_by_patient_and_names_its_target():
    found = [Found(f"i{n}", f"p{n // 3}", "real", "star", n % 10 != 0) for n in range(60)]
    share, interval = recall(found, 200, 1)
    assert share == pytest.approx(0.9)
    assert interval.low < share < interval.high
    lines = list(recall_lines("real", found, 200, 1))
    assert "n = 60 on 60 pictures; target 0.9: met" in lines[0]
    assert lines[1] == "  star: 0.900, n = 60"


def test_the_labels_hold_callipers_on_a_hundred_pictures():
    labels = read_labels(LABELS)
    carrying = [name for name, callipers in labels.items() if callipers]
    assert len(carrying) >= 100
    assert {one.style for callipers in labels.values() for one in callipers} == {
        "upright",
        "diagonal",
        "star",
    }
