"""What is not plain B-mode is set aside under its own name, told from pixels; plain B-mode is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.data.drawn import PAINTERS
from operators.find_lesions import _KINDS, find_lesions
from operators.needle import shows_needle
from operators.panels import split
from operators.study import Reason, Region
from operators.tissue import unusable
from operators.tracing import is_m_mode, is_spectrum, m_mode_likeness
from tests.operators.drawn_screens import (
    b_mode,
    colour,
    elastogram,
    flow,
    jpeg_like,
    side_by_side,
    with_needle,
)
from tests.operators.made_files import image, region, save, with_regions
from tests.operators.test_select_frames import selected

SEEDS = range(6)


def reason(pixels) -> Reason | None:
    verdict = unusable(pixels)
    return None if verdict is None else verdict[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_plain_b_mode_passes_in_grey_and_in_colour(seed):
    assert reason(b_mode(seed)) is None
    assert reason(colour(b_mode(seed))) is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("soften", [np.asarray, jpeg_like])
def test_colours_are_named(seed, soften):
    assert reason(soften(flow(b_mode(seed), seed))) is Reason.DOPPLER
    assert reason(soften(flow(b_mode(seed), seed, power=True))) is Reason.DOPPLER
    assert reason(soften(elastogram(b_mode(seed), seed))) is Reason.ELASTOGRAPHY


@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png", "motorcycle_left.png", "chelsea.png"])
def test_colour_photographs_are_called_that(name):
    with Image.open(Path(skimage.__file__).with_name("data") / name) as picture:
        assert reason(np.asarray(picture.convert("RGB"))) is Reason.PHOTOGRAPH


def drawn(kind, count=20):
    return [PAINTERS[kind](np.random.default_rng([17, seed])) for seed in range(count)]


def test_tracings_are_named_by_their_stripes_and_b_mode_is_not():
    assert np.mean([is_spectrum(grey) for grey in drawn("spectrum")]) >= 0.7
    assert np.mean([is_m_mode(grey) for grey in drawn("m-mode")]) >= 0.5
    others = [
        grey
        for kind in ("phantom", "other-organ", "noise", "photograph", "tomography")
        for grey in drawn(kind)
    ]
    assert np.mean([is_spectrum(grey) or is_m_mode(grey) for grey in others]) <= 0.01
    for seed in SEEDS:
        assert not is_spectrum(b_mode(seed))
        assert m_mode_likeness(b_mode(seed)) < 0.6


def test_pages_of_text_and_screens_are_named():
    assert all(reason(grey) is Reason.TEXT_SCREEN for grey in drawn("text", 8))
    named = [reason(grey) for grey in drawn("screen", 12)]
    assert named.count(Reason.SCREENSHOT) >= 6


def test_a_needle_is_named_where_it_is_long_and_oblique():
    found = [shows_needle(with_needle(b_mode(seed), seed)) for seed in range(20)]
    assert np.mean(found) >= 0.7
    assert not [seed for seed in range(20) if shows_needle(b_mode(seed))]
    seed = found.index(True)
    assert reason(with_needle(b_mode(seed), seed)) is Reason.NEEDLE


def test_layers_along_the_probe_are_no_needle():
    grey = b_mode(3)
    grey[100:103] = 230
    assert not shows_needle(grey)


@given(st.integers(3, 30), st.integers(90, 200), st.integers(90, 200), st.integers(0, 50), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_screen_is_cut_where_its_border_is(gap, first, second, seed, upright):
    left, right = np.maximum(b_mode(seed, 150, first), 20), np.maximum(b_mode(seed + 1, 150, second), 20)
    screen = side_by_side(left, right, gap)
    if upright:
        screen = np.ascontiguousarray(screen.T)
    place = Region(7, 11, 7 + screen.shape[1] - 1, 11 + screen.shape[0] - 1, 0.1, 0.1, stated=True)
    parts = split(screen, place)
    wide = min(first, second) >= 0.2 * (first + second + gap)
    assert len(parts) == (2 if wide else 1)
    for part, picture in zip(parts, (left, right), strict=False):
        if len(parts) == 2:
            size = (part.columns, part.rows) if upright else (part.rows, part.columns)
            assert size == picture.shape
            assert part.mm_per_pixel_x == 0.1
            assert part.stated


@given(st.integers(0, 200), st.integers(60, 300), st.integers(60, 300))
@settings(max_examples=25, deadline=None)
def test_one_picture_is_never_cut(seed, rows, columns):
    place = Region(0, 0, columns - 1, rows - 1)
    assert split(np.maximum(b_mode(seed, rows, columns), 8), place) == (place,)


def test_the_b_mode_half_of_a_split_screen_is_kept_and_the_other_named(tmp_path):
    left, right = colour(b_mode(1, 200, 200)), elastogram(b_mode(2, 200, 200))
    screen = side_by_side(left, right)
    stated = region(0, 0, screen.shape[1] - 1, 199)
    for name, dataset in (("bare", image(screen)), ("stated", with_regions(image(screen), stated))):
        selection = selected(save(dataset, tmp_path / name))
        assert [(one.region.min_x0, one.region.columns) for one in selection.frames] == [(0, 200)]
        (aside,) = selection.set_aside
        assert aside.reason is Reason.SPLIT_SCREEN
        assert "elastography" in aside.detail


def test_a_region_beside_a_split_one_is_named_for_what_it_is(tmp_path):
    screen = side_by_side(colour(b_mode(1, 200, 200)), elastogram(b_mode(2, 200, 200)))
    below = flow(b_mode(3, 200, screen.shape[1]), 3)
    picture = np.concatenate([screen, np.zeros((8, *screen.shape[1:]), np.uint8), below])
    right = screen.shape[1] - 1
    stated = (region(0, 0, right, 199), region(0, 208, right, 407))
    selection = selected(save(with_regions(image(picture), *stated), tmp_path / "a"))
    assert [(one.region.min_x0, one.region.min_y0) for one in selection.frames] == [(0, 0)]
    named = {one.reason: one.detail for one in selection.set_aside}
    assert set(named) == {Reason.SPLIT_SCREEN, Reason.DOPPLER}
    assert "split screen" not in named[Reason.DOPPLER]


def test_two_b_mode_halves_are_two_frames_and_four_pictures_are_none(tmp_path):
    two = side_by_side(b_mode(1, 200, 200), b_mode(2, 200, 200))
    assert len(selected(save(image(two, "two"), tmp_path / "two")).frames) == 2
    four = np.concatenate([two, np.zeros((8, two.shape[1]), np.uint8), two])
    selection = selected(save(image(four, "four"), tmp_path / "four"))
    assert selection.frames == ()
    assert {one.reason for one in selection.set_aside} == {Reason.SPLIT_SCREEN}


def test_a_tracing_below_the_b_mode_picture_leaves_it(tmp_path):
    trace = next(grey for grey in drawn("m-mode") if is_m_mode(grey))
    trace = np.asarray(Image.fromarray(trace).resize((320, 160)))
    screen = np.concatenate([b_mode(1, 200, 320), np.zeros((6, 320), np.uint8), np.maximum(trace, 16)])
    selection = selected(save(image(screen), tmp_path / "a"))
    assert [one.region.rows for one in selection.frames] == [200]
    (aside,) = selection.set_aside
    assert aside.reason is Reason.SPLIT_SCREEN
    assert "M-mode" in aside.detail


def test_a_page_of_text_without_regions_is_named(tmp_path):
    page = np.zeros((300, 400), np.uint8)
    text = drawn("text", 1)[0][:280, :380]
    page[: text.shape[0], : text.shape[1]] = text
    assert selected(save(image(page), tmp_path / "a")).set_aside[0].reason is Reason.TEXT_SCREEN


def test_a_volume_is_named_by_its_class(tmp_path):
    volume = image(b_mode(1), "volume", SOPClassUID="1.2.840.10008.5.1.4.1.1.6.2")
    selection = selected(save(volume, tmp_path / "volume"), save(image(b_mode(2)), tmp_path / "still"))
    assert [one.reason for one in selection.set_aside] == [Reason.VOLUME]
    assert len(selection.frames) == 1


def test_the_gate_says_what_a_picture_looks_like(tmp_path, models):
    head = next(grey for grey in drawn("tomography") if models.lesion.find(grey).kind == "tomography")
    selection = selected(save(image(head), tmp_path / "head"))
    result = find_lesions(selection, models.lesion, models.marks, maximum_lesions_per_frame=3)
    assert result.frames == ()
    (aside,) = result.set_aside
    assert aside.reason is Reason.TOMOGRAPHY
    assert "does not look like" in aside.detail
    assert "tomography" in aside.detail


def test_every_kind_of_the_gate_has_a_reason(models):
    assert set(models.lesion.gate.kinds.names) == set(PAINTERS) == set(_KINDS)
