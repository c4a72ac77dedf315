"""Outlines and their sizes, on ellipses whose size is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.outline import measure, outline_of
from operators.study import Region


def _ellipse(rows, columns, centre, axes, angle):
    y, x = np.mgrid[:rows, :columns] + 0.5
    dx, dy = x - centre[0], y - centre[1]
    along = dx * math.cos(angle) + dy * math.sin(angle)
    across = -dx * math.sin(angle) + dy * math.cos(angle)
    return (along / axes[0]) ** 2 + (across / axes[1]) ** 2 <= 1


@given(
    st.floats(15, 60),
    st.floats(0.4, 1),
    st.floats(0, math.pi),
    st.floats(0.02, 0.3),
    st.integers(0, 50),
)
def test_an_ellipse_has_its_axes_and_its_area(long, ratio, angle, scale, offset):
    mask = _ellipse(160, 180, (90, 80), (long, long * ratio), angle)
    region = Region(offset, 7, offset + 179, 166, scale, scale)
    size = measure(outline_of(mask, region), region)
    assert size is not None
    assert size.long_axis_mm == pytest.approx(2 * long * scale, abs=2.5 * scale)
    assert size.short_axis_mm == pytest.approx(2 * long * ratio * scale, rel=0.05, abs=2.5 * scale)
    assert size.area_mm2 == pytest.approx(math.pi * long**2 * ratio * scale**2, rel=0.05)


def test_scales_that_differ_are_taken_each_for_its_axis():
    mask = _ellipse(100, 100, (50, 50), (20, 20), 0)
    region = Region(0, 0, 99, 99, 0.1, 0.2)
    size = measure(outline_of(mask, region), region)
    assert size is not None
    assert size.long_axis_mm == pytest.approx(8, abs=0.3)
    assert size.short_axis_mm == pytest.approx(4, abs=0.3)


def test_without_calibration_there_is_no_size():
    mask = _ellipse(100, 100, (50, 50), (20, 20), 0)
    region = Region(0, 0, 99, 99)
    assert measure(outline_of(mask, region), region) is None


@given(st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_an_outline_lies_in_its_region_whatever_the_mask(rows, columns, random):
    mask = np.array([[random.random() < 0.3 for _ in range(columns)] for _ in range(rows)])
    mask[random.randrange(rows), random.randrange(columns)] = True
    region = Region(11, 5, 11 + columns - 1, 5 + rows - 1, 0.1, 0.1)
    outline = outline_of(mask, region)
    assert outline.shape[0] >= 3
    assert (outline >= (11, 5)).all()
    assert (outline <= (11 + columns, 5 + rows)).all()
    assert measure(outline, region) is not None


def test_a_pixel_in_the_corner_has_its_half_pixel():
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = True
    outline = outline_of(mask, Region(0, 0, 9, 9))
    np.testing.assert_allclose(outline.mean(axis=0), (0.5, 0.5), atol=0.01)


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        outline_of(np.zeros((10, 10), bool), Region(0, 0, 9, 9))
