"""The prior over outlines: within the frame, no copies, several lesions apart, labels that fit."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from scipy import ndimage  # noqa: E402

from models.generation.conditions import BIRADS, HISTOLOGY  # noqa: E402
from models.generation.prior import arrays_of, fit_prior, prior_of, radii_of, rasterise  # noqa: E402

SIDE = 64


def ellipses(count: int, seed: int, size: tuple[float, float]) -> np.ndarray:
    random = np.random.default_rng(seed)
    y, x = np.ogrid[:SIDE, :SIDE]
    masks = []
    for _ in range(count):
        centre, half = random.uniform(24, 40, 2), random.uniform(*size, 2)
        masks.append(((y - centre[0]) / half[0]) ** 2 + ((x - centre[1]) / half[1]) ** 2 <= 1)
    return np.stack(masks).astype(np.uint8)


@pytest.fixture(scope="module")
def fitted():
    """Benign lesions small and all fibroadenomas of BI-RADS 3, malignant ones large and ductal, 5."""
    masks = np.concatenate([ellipses(120, 1, (6, 10)), ellipses(120, 2, (12, 20))])
    labels = np.array([[2, 1, 3, 2]] * 120 + [[3, 1, 5, 7]] * 120)
    zoom = np.full(240, 0.8, np.float32)
    return masks, fit_prior(masks, labels, zoom, (0.4, 0.8), 1)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@given(seed=st.integers(0, 2**63 - 1), lesion=st.sampled_from(["benign", "malignant"]))
@settings(max_examples=80, deadline=None)
def test_a_drawn_mask_is_whole_visible_and_no_copy(fitted, seed, lesion):
    masks, prior = fitted
    drawn = prior.draw(lesion, 1, np.random.default_rng(seed))
    assert drawn.mask.shape == (SIDE, SIDE)
    assert set(np.unique(drawn.mask)) == {0, 1}
    assert ndimage.label(drawn.mask, np.ones((3, 3)))[1] == 1
    assert not drawn.mask[[0, -1]].any()
    assert not drawn.mask[:, [0, -1]].any()
    assert not any(np.array_equal(drawn.mask, mask) for mask in masks)
    assert drawn.lesions == 1
    expected = ("3", "fibroadenoma") if lesion == "benign" else ("5", "ductal carcinoma")
    assert (drawn.birads, drawn.histology) == expected
    again = prior.draw(lesion, 1, np.random.default_rng(seed))
    assert np.array_equal(drawn.mask, again.mask)


def test_sizes_follow_the_class_and_shapes_vary_more_than_resampling_would(fitted):
    masks, prior = fitted
    areas = {}
    for lesion, own in (("benign", masks[:120]), ("malignant", masks[120:])):
        drawn = [prior.draw(lesion, 1, np.random.default_rng(seed)).mask for seed in range(150)]
        areas[lesion] = np.mean([mask.sum() for mask in drawn])
        assert areas[lesion] == pytest.approx(own.sum((1, 2)).mean(), rel=0.2)
        nearest = [max(overlap(mask, other) for other in own) for mask in drawn]
        assert np.median(nearest) < 0.97
    assert areas["malignant"] > 2 * areas["benign"]


@given(seed=st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_several_lesions_lie_apart_and_are_counted(fitted, seed):
    drawn = fitted[1].draw("benign", 3, np.random.default_rng(seed))
    assert 1 <= drawn.lesions <= 3
    assert ndimage.label(drawn.mask, np.ones((3, 3)))[1] == drawn.lesions
    first = fitted[1].draw("benign", 1, np.random.default_rng(seed))
    assert np.array_equal(drawn.mask & first.mask, first.mask), "the first lesion is drawn first"


@given(
    centre=st.tuples(st.floats(-50, 120), st.floats(-50, 120)),
    radii=st.lists(st.floats(0.5, 200), min_size=16, max_size=16),
)
@settings(max_examples=80, deadline=None)
def test_any_outline_ends_within_the_frame(centre, radii):
    mask = rasterise(*centre, np.repeat(radii, 4), SIDE)
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()


def test_an_outline_survives_its_description(fitted):
    for mask in fitted[0][::20]:
        x, y, radii = radii_of(mask)
        assert overlap(rasterise(x, y, radii, SIDE), mask) > 0.88


def test_the_kept_arrays_hold_no_mask_and_draw_the_same(fitted):
    masks, prior = fitted
    arrays = arrays_of(prior)
    assert sum(array.size for array in arrays.values()) < 0.05 * masks.size
    kept = prior_of(arrays, prior.tissue_zoom, SIDE)
    for seed in range(5):
        one, two = (p.draw("malignant", 2, np.random.default_rng(seed)) for p in (prior, kept))
        assert np.array_equal(one.mask, two.mask)
    for part in prior.classes.values():
        assert part.birads.shape[1] == len(BIRADS)
        assert part.histology.shape[1] == len(HISTOLOGY)
        assert np.allclose(part.histology.sum(1), 1)


@given(seed=st.integers(0, 2**32 - 1), parts=st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_kept_in_single_precision_it_still_draws(fitted, seed, parts):
    prior, random = fitted[1], np.random.default_rng(seed)
    arrays = arrays_of(prior)
    for lesion in prior.classes:
        mean, root = arrays[f"{lesion}.mean"], arrays[f"{lesion}.root"]
        arrays[f"{lesion}.mean"], arrays[f"{lesion}.root"] = mean[[0] * parts], root[[0] * parts]
        arrays[f"{lesion}.weight"] = random.dirichlet(np.ones(parts))
        arrays[f"{lesion}.birads"] = random.dirichlet(np.ones(len(BIRADS)), parts)
        arrays[f"{lesion}.histology"] = random.dirichlet(np.ones(len(HISTOLOGY)), parts)
    single = {name: array.astype(np.float32) for name, array in arrays.items()}
    kept = prior_of({name: array.astype(float) for name, array in single.items()}, (0.4, 0.8), SIDE)
    for lesion in prior.classes:
        drawn = kept.draw(lesion, 1, random)
        assert drawn.mask.shape == (SIDE, SIDE)
        assert drawn.mask.any()
