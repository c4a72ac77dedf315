"""Seeds of what a run draws, from its own seed, epoch and step.

Promises: no two epochs of any two runs share a seed, nor do two steps or processes; the same on every
machine and in every version of Python. Epochs below 1,000 are seeded as runs have been from the first, so
that one which is resumed goes on bit for bit; later ones, where those seeds would meet the next run's, by
NumPy's SeedSequence.
"""

from __future__ import annotations

from typing import Final

import numpy as np

_FIRST_EPOCHS: Final = 1000
_BITS: Final = 2**64
# Primes of xxHash64 (Collet), as in CPython's hash of a tuple.
_PRIME_1, _PRIME_2, _PRIME_5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
_MINUS_ONE_BECOMES: Final = 1546275796


def epoch_seed(seed: int, epoch: int) -> int:
    """What all processes draw the batches of an epoch, from 0, from."""
    return seed * _FIRST_EPOCHS + epoch if epoch < _FIRST_EPOCHS else _sequence(seed, epoch)


def step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """What one process's network draws from in a step, counted over all epochs."""
    if epoch < _FIRST_EPOCHS:
        return mixed(seed, epoch, step, rank) % 2**63
    return _sequence(seed, epoch, step, rank)


def mixed(*numbers: int) -> int:
    """64 bits of whole numbers from 0 on: CPython's hash of their tuple, written out to stay what it is.

    Source: Objects/tupleobject.c of CPython 3.8 and later, after xxHash64.
    """
    total = _PRIME_5
    for number in numbers:
        total = (total + number % (2**61 - 1) * _PRIME_2) % _BITS
        total = (total << 31 | total >> 33) % _BITS * _PRIME_1 % _BITS
    total = (total + (len(numbers) ^ _PRIME_5 ^ 3527539)) % _BITS
    return _MINUS_ONE_BECOMES if total == _BITS - 1 else total


def _sequence(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
