"""The card and the learning curves of a bundle.

Promises: says what the model is for, what it learned from and how, what it is not for; numbers come from the
runs' own records. Figures with intervals are the validation suite's, and are pointed to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

_CARD = Path(__file__).with_name("card.md")


def write_card(
    folder: Path, runs: Path, folds: Sequence[str], measure: str, facts: Mapping[str, Any]
) -> None:
    """Write `docs/README.md` and `docs/curves.png` of a bundle.

    Parameters
    ----------
    runs : folder with one run a fold and `final`, each with `history.json`
    measure : the key of the histories that was watched
    facts : what the card's text names
    """
    docs = folder / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    histories = {name: _history(runs / name) for name in (*folds, "final")}
    last = [f"fold {name} {histories[name][-1][measure]:.3f}" for name in folds]
    text = _CARD.read_text(encoding="utf-8").format(measure=measure, held_out=", ".join(last), **facts)
    (docs / "README.md").write_text(text, encoding="utf-8")
    _draw(histories, measure, docs / "curves.png")


def _history(run: Path) -> list[dict[str, float]]:
    return list(json.loads((run / "history.json").read_text(encoding="utf-8")))


def _draw(histories: Mapping[str, Sequence[Mapping[str, float]]], measure: str, path: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for style, (name, rows) in zip(("-", "--", "-.", ":", (0, (1, 3))), histories.items(), strict=False):
        epochs = [row["epoch"] for row in rows]
        left.plot(epochs, [row["loss"] for row in rows], linestyle=style, color="black", label=name)
        if measure in rows[0]:
            right.plot(epochs, [row[measure] for row in rows], linestyle=style, color="black", label=name)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=measure.replace("_", " "))
    left.legend(title="held out", fontsize=8)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)
