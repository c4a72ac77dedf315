"""Judging the generator from the files that `busmap generator study`, `privacy` and `fidelity` write."""
