"""Seeds of training: those that runs were drawn with, and none that meet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.training.seeds import epoch_seed, mixed, step_seed

NUMBERS = st.integers(0, 2**62)


@given(st.lists(NUMBERS, max_size=6))
def test_numbers_are_mixed_as_by_the_python_that_the_first_runs_had(numbers):
    assert mixed(*numbers) % 2**63 == hash(tuple(numbers)) % 2**63


def test_runs_that_are_resumed_draw_what_they_would_have_drawn():
    assert epoch_seed(7, 999) == 7999
    assert step_seed(1, 25, 640, 0) == 4536658387364039231
    assert step_seed(1, 25, 640, 1) != step_seed(1, 25, 640, 0)


def test_long_runs_of_neighbouring_seeds_share_no_epoch():
    seeds = [epoch_seed(seed, epoch) for seed in (1, 2, 3, 4, 5) for epoch in range(4000)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**64 for seed in seeds)
    steps = [
        step_seed(seed, epoch, 9, rank) for seed in (1, 2) for epoch in range(998, 1003) for rank in (0, 1)
    ]
    assert len(set(steps)) == len(steps)
