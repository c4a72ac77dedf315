"""The marks that are painted to see whether they carry the decision."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from models.data.busbra import read_busbra
from models.runtime.loaded import load_models
from models.runtime.preprocess import suppress_marks
from tests.models.made_sets import make_busbra
from validation.marks import PICTURES, MarkChange, Placement, axis_ends, choose, compare, mean_change, paint


def _speckle(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.clip(random.rayleigh(40, (240, 300)), 0, 255).astype(np.uint8)


def test_marks_are_bright_thin_and_leave_the_rest_alone():
    grey = _speckle(1)
    painted = paint(grey, np.random.default_rng(1))
    changed = painted != grey
    assert 0.001 < changed.mean() < 0.1
    assert np.median(painted[changed].astype(int) - grey[changed]) > 50
    assert (paint(grey, np.random.default_rng(1)) == painted).all()


def test_most_of_the_marks_are_suppressed_before_a_network_sees_them():
    grey = _speckle(2)
    painted = paint(grey, np.random.default_rng(2))
    clean = suppress_marks(painted)
    bright = painted.astype(int) - grey > 60
    assert (clean[bright].astype(int) - grey[bright] < 60).mean() > 0.6


def test_the_choice_is_seeded_and_bounded():
    records = [SimpleNamespace(number=number) for number in range(500)]
    chosen = choose(records, 1)
    assert len(chosen) == PICTURES
    assert chosen == choose(records, 1)
    assert chosen != choose(records, 2)
    assert len(choose(records[:7], 1)) == 7


def test_mean_and_interval_go_by_patient():
    changes = [MarkChange(f"i{n}", f"p{n // 2}", "random", 0.01 * (n % 3), 0.0) for n in range(60)]
    mean, interval = mean_change(changes, "probability", 200, 1)
    assert interval.low <= mean <= interval.high
    assert mean_change(changes, "dice", 200, 1)[0] == 0


def test_pictures_are_answered_with_and_without_marks(tmp_path):
    records = read_busbra(make_busbra(tmp_path / "busbra", patients=5))[:3]
    changes = list(compare(records, load_models(threads=1), 1))
    assert [change.image_id for change in changes] == [one.image_id for one in records for _ in Placement]
    assert all(0 <= change.probability <= 1 and 0 <= change.dice <= 1 for change in changes)


def test_callipers_stand_at_the_ends_of_the_axes():
    y, x = np.mgrid[:120, :160]
    mask = ((x - 80) / 50) ** 2 + ((y - 60) / 20) ** 2 <= 1
    long, short = axis_ends(mask)
    np.testing.assert_allclose(np.sort(long[:, 0]), (30, 130), atol=1)
    np.testing.assert_allclose(np.sort(short[:, 1]), (40, 80), atol=1)
