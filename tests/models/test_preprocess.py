"""What happens to pixels before a network sees them, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from models.runtime.preprocess import Letterbox, find_marks, lesion_crop, letterbox, suppress_marks

sizes = st.integers(20, 220)


def speckle(rows, columns, seed=0):
    random = np.random.default_rng(seed)
    noise = random.standard_normal((rows + 20, columns + 20))
    smooth = ndimage.gaussian_filter(noise, 1.5)[10:-10, 10:-10]  # filtered edges are brighter: cut off
    return np.clip(80 + 60 * smooth, 0, 255).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.sampled_from([64, 160, 256]))
def test_letterbox_keeps_proportions_and_leads_back(rows, columns, side):
    y, x = np.mgrid[:rows, :columns]
    ramp = (200 * x / columns + 50 * y / rows).astype(np.uint8)
    square, box = letterbox(ramp, side)
    assert square.shape == (side, side)
    assert square.dtype == np.float32
    assert 0 <= square.min() <= square.max() <= 1
    inner_rows, inner_columns = box.inner
    assert max(inner_rows, inner_columns) == side
    assert abs(inner_rows / box.scale - rows) <= 0.5 / box.scale + 1e-6
    assert abs(inner_columns / box.scale - columns) <= 0.5 / box.scale + 1e-6
    assert not square[inner_rows:].any()
    assert not square[:, inner_columns:].any()
    back = box.invert(square) * 255
    assert back.shape == (rows, columns)
    slope = 200 / columns + 50 / rows
    assert np.abs(back - ramp).max() <= 3 + 2 * slope * max(1.0, 1 / box.scale)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.data())
def test_a_box_found_in_the_square_lies_over_the_lesion(rows, columns, data):
    height = data.draw(st.integers(rows // 3, rows // 2))
    width = data.draw(st.integers(columns // 3, columns // 2))
    top = data.draw(st.integers(0, rows - height))
    left = data.draw(st.integers(0, columns - width))
    mask = np.zeros((rows, columns), np.uint8)
    mask[top : top + height, left : left + width] = 255
    box = Letterbox(160, rows, columns)
    found = box.invert(box.apply(mask)) > 0.5
    overlap = 2 * (found & (mask > 0)).sum() / (found.sum() + (mask > 0).sum())
    assert overlap > 0.7
    centre = ndimage.center_of_mass(found)
    tolerance = 1 + 1 / box.scale
    assert centre == pytest.approx((top + (height - 1) / 2, left + (width - 1) / 2), abs=tolerance)


def cross(grey, row, column, arm=6):
    marked = grey.copy()
    marked[row - arm : row + arm + 1, column : column + 2] = 250
    marked[row : row + 2, column - arm : column + arm + 1] = 250
    return marked


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 179), st.integers(20, 219), st.integers(0, 50))
def test_marks_are_suppressed_where_they_are_and_nowhere_else(row, column, seed):
    plain = speckle(200, 240, seed)
    marked = cross(plain, row, column)
    clean = suppress_marks(marked)
    touched = clean != marked
    y, x = np.nonzero(touched)
    assert len(y)
    assert np.hypot(y - row, x - column).max() < 14
    painted = marked != plain
    assert clean[painted].max() < 200
    assert np.abs(clean[painted].astype(float) - plain[painted]).mean() < 40
    assert np.array_equal(touched & ~find_marks(marked), np.zeros_like(touched))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_tissue_without_marks_is_left_alone(seed):
    plain = speckle(120, 150, seed)
    assert not find_marks(plain).any()
    assert suppress_marks(plain) is plain


def test_a_large_bright_structure_is_no_mark():
    tissue = speckle(200, 240)
    tissue[60:64, 20:220] = 240  # a bright fascia: thin, but far longer than any mark
    tissue[120:160, 60:120] = 230
    assert np.array_equal(suppress_marks(tissue), tissue)


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 80), st.integers(10, 110), st.floats(1.0, 3.0), st.integers(3, 20))
def test_a_crop_is_centred_on_the_lesion_with_its_surroundings(row, column, context, radius):
    grey = np.full((90, 120), 100, np.uint8)
    y, x = np.ogrid[:90, :120]
    mask = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    crop = lesion_crop(grey, mask, 96, context)
    assert crop.shape == (2, 96, 96)
    assert crop.dtype == np.float32
    assert 0 <= crop.min() <= crop.max() <= 1
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side = max(context * max(np.ptp(rows) + 1, np.ptp(columns) + 1), 16)
    share = crop[1].sum() / 96**2
    assert share == pytest.approx(mask.sum() / side**2, rel=0.25, abs=0.01)
    middle = np.array(ndimage.center_of_mass(np.ones((96, 96))))
    seen_rows, seen_columns = np.flatnonzero((crop[1] > 0.5).any(1)), np.flatnonzero((crop[1] > 0.5).any(0))
    centre = ((seen_rows[0] + seen_rows[-1]) / 2, (seen_columns[0] + seen_columns[-1]) / 2)
    assert centre == pytest.approx(tuple(middle), abs=2 + 96 / side)
    outside = crop[0] < 0.01
    assert not (outside & (crop[1] > 0.99)).any()


def test_a_crop_beyond_the_edge_is_black_there():
    grey = np.full((60, 60), 200, np.uint8)
    mask = np.zeros((60, 60), bool)
    mask[:10, :10] = True
    crop = lesion_crop(grey, mask, 40, 2.0)
    assert not crop[0, :8, :].any()
    assert not crop[0, :, :8].any()
    assert crop[0, 20:, 20:].min() > 0.7


def test_what_is_no_grey_picture_is_refused():
    colour, floats = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32)
    for wrong in (colour, floats, np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            letterbox(wrong, 32)
        with pytest.raises(ValueError, match="uint8"):
            suppress_marks(wrong)
    grey = np.zeros((8, 8), np.uint8)
    for mask in (np.zeros((8, 8), bool), np.ones((4, 4), bool)):
        with pytest.raises(ValueError, match="only found lesions"):
            lesion_crop(grey, mask, 32, 2.0)
