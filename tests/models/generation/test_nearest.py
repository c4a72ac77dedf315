"""Distances between pictures: what they must not change with, and draws that come too near."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from models.data.record import DataError  # noqa: E402
from models.generation import repository  # noqa: E402
from models.generation.draw import Asked, draw_images, draw_row  # noqa: E402
from models.generation.flow import Solver  # noqa: E402
from models.generation.nearest import (  # noqa: E402
    SIDE,
    NearIndex,
    all_features,
    all_pixels,
    load_index,
    nearest_pixels,
    pixel_vectors,
    save_index,
)
from models.generation.redraw import redraw  # noqa: E402
from models.generation.repository import (  # noqa: E402
    Shard,
    fill,
    read_rows,
    rejected_count,
    repository_facts,
    shard_of,
)

SOLVER = Solver(steps=1)
ASKED = Asked(0.2, 0.5, 0.0, ("GE Logiq 5",), 0.3, 0.3)


def made(seed, count=1, side=2 * SIDE):
    return np.random.default_rng(seed).integers(40, 160, (count, side, side)).astype(np.uint8)


def distance(one, other):
    return nearest_pixels(pixel_vectors(one[None]), pixel_vectors(other[None])).distance[0]


@given(st.integers(0, 2**31), st.integers(-2, 2), st.integers(-2, 2), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_distance_is_one(seed, down, across, mirrored):
    one, other = made(seed, 2)
    there, back = distance(one, other), distance(other, one)
    assert there == pytest.approx(back, abs=1e-4), "the same both ways"
    assert 0 < there <= 2
    moved = np.roll(one, (2 * down, 2 * across), (0, 1))
    moved = moved[:, ::-1] if mirrored else moved
    assert distance(one, np.ascontiguousarray(moved)) == pytest.approx(0, abs=2e-3)
    darker = (one.astype(float) * 0.5 + 20).round().astype(np.uint8)
    assert distance(one, darker) < 0.04, "but for rounding"
    assert distance(other[:, ::-1].copy(), one) == pytest.approx(there, abs=1e-4), "mirrors are alike"


def test_the_nearest_is_found_and_all_distances_agree():
    pictures = made(1, 12)
    vectors = pixel_vectors(pictures)
    shuffled = np.random.default_rng(2).permutation(12)
    found = nearest_pixels(vectors[shuffled], vectors)
    assert np.array_equal(found.position, shuffled)
    assert found.distance.max() < 2e-3
    each = all_pixels(vectors)
    assert each == pytest.approx(each.T, abs=1e-4)
    assert each.diagonal().max() < 2e-3
    np.fill_diagonal(each, np.inf)
    for i in range(12):
        rest = torch.cat([vectors[:i], vectors[i + 1 :]])
        assert each[i].min() == pytest.approx(nearest_pixels(vectors[i : i + 1], rest).distance[0], abs=1e-4)
    features = torch.nn.functional.normalize(torch.from_numpy(made(2, 5, 8)).float().flatten(1))
    assert all_features(features) == pytest.approx(torch.cdist(features, features).numpy(), abs=2e-3)
    flat = np.full((1, 128, 128), 80, np.uint8)
    assert nearest_pixels(pixel_vectors(flat), vectors).distance[0] == pytest.approx(np.sqrt(2), abs=1e-3)


def test_unlike_pictures_lie_where_independent_noise_does():
    """Correlation of noise is 0 with spread 1/64: the largest of 50 is known (Monte Carlo)."""
    pairs = [distance(*made(seed, 2, SIDE)) for seed in range(60)]
    random = np.random.default_rng(0)
    largest = random.standard_normal((20000, 50)).max(1) / SIDE
    assert np.mean(pairs) == pytest.approx(np.sqrt(2 - 2 * largest).mean(), abs=0.005)


def test_an_index_comes_back_from_its_file(tmp_path):
    vectors = pixel_vectors(made(3, 4))
    save_index(vectors, {"lesion": 0.4, "tissue": 0.2}, tmp_path / "index.npz")
    index = load_index(tmp_path / "index.npz")
    assert index.thresholds == {"lesion": 0.4, "tissue": 0.2}
    assert index.too_near(made(3, 4)[2], lesion=False)
    assert not index.too_near(made(4)[0], lesion=True)
    (tmp_path / "broken.npz").write_bytes(b"no index")
    for name in ("broken.npz", "missing.npz"):
        with pytest.raises(DataError, match="busmap generator index"):
            load_index(tmp_path / name)


def known_index(generator, indices, threshold=0.05):
    """An index of pictures that this very generator is about to draw."""
    rows = [draw_row(generator, ASKED, SOLVER, 5, index) for index in indices]
    pictures = np.stack([repository.unmarked(draw_images(generator, [r], SOLVER)[0][0], r) for r in rows])
    return NearIndex(pixel_vectors(pictures), {"lesion": threshold, "tissue": threshold}, "known")


def test_draws_too_near_are_thrown_away_counted_and_drawn_anew(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "PART_ROWS", 8)
    near = known_index(generator, (2, 5, 9))
    fill(generator, tmp_path / "free", ASKED, SOLVER, 5, Shard(0, 12))
    fill(generator, tmp_path / "kept", ASKED, SOLVER, 5, Shard(0, 12), near)
    free, kept = read_rows(tmp_path / "free"), read_rows(tmp_path / "kept")
    assert [row.index for row in kept if row.rejected] == [2, 5, 9]
    assert rejected_count(tmp_path / "kept") == 3
    assert rejected_count(tmp_path / "free") == 0
    facts = repository_facts(tmp_path / "kept")
    assert (facts["kept_away_from"], facts["away_below"]) == ("known", {"lesion": 0.05, "tissue": 0.05})
    for one, other in zip(free, kept, strict=True):
        assert (one == other) == (other.rejected == 0)
        picture = redraw(generator, other).image
        assert not near.too_near(repository.unmarked(picture, other), lesion=other.lesions > 0)
    for part in (2, 1):
        fill(generator, tmp_path / "parts", ASKED, SOLVER, 5, shard_of(12, part, 2), near)
    assert read_rows(tmp_path / "parts") == kept
    table = tmp_path / "kept" / "table" / "000000000-000000008.parquet"
    table.unlink()
    (tmp_path / "kept" / "images" / "000" / "000005.png").unlink()  # as if killed before this picture
    fill(generator, tmp_path / "kept", ASKED, SOLVER, 5, Shard(0, 12), near)
    assert read_rows(tmp_path / "kept") == kept, "a killed run goes on to the same rows"


def test_a_generator_that_only_copies_is_told_so(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "MOST_REJECTED", 2)
    with pytest.raises(DataError, match="knows its pictures by heart"):
        fill(generator, tmp_path, ASKED, SOLVER, 5, Shard(0, 2), known_index(generator, (0, 1), 2.1))
