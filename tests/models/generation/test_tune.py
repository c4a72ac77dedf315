"""Guidance and steps chosen on the patients set aside: who has a say, the rule, kills, sampling."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.data.record import DataError  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.flow import Solver  # noqa: E402
from models.generation.study import tune as tuning  # noqa: E402
from models.generation.study.tune import Grid, Tried, chosen_solver, fewest_steps, tune  # noqa: E402
from models.training.run import RunDiffersError  # noqa: E402

GRID = Grid((1.0, 4.0), (1, 2), at=2)
COUNT = 12


@pytest.fixture(scope="module")
def tuned(generator, learned, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned")
    lines: list[str] = []
    return out, tune(generator, learned, out, GRID, COUNT, 1, lines.append), lines


def test_every_setting_is_judged_and_the_least_kid_guides(tuned, generator):
    out, chosen, lines = tuned
    content = json.loads((out / "tune.json").read_text())
    rows = {(row["guidance"], row["steps"]): row for row in content["tried"]}
    best = min(GRID.guidance, key=lambda guidance: rows[guidance, GRID.at]["kid"])
    assert chosen.guidance == best
    assert set(rows) == {(guidance, 2) for guidance in GRID.guidance} | {(best, 1)}
    assert len(lines) == 4
    assert rows[chosen.guidance, chosen.steps]["minus_chosen"] == 0
    assert all(row["interval"][0] <= row["interval"][1] for row in rows.values())
    assert (content["model"], content["pictures"], content["patients"]) == (generator.digest, COUNT, 3)
    assert chosen_solver(out / "tune.json", generator.digest) == chosen
    for name in ("tune.png", "grid.png"):
        assert (out / name).stat().st_size > 0


def test_nobody_learned_from_has_a_say(generator, learned, tuned, tmp_path):
    """Other pictures of those learned from change no figure; other pictures of those set aside do."""
    before = json.loads((tuned[0] / "tune.json").read_text())["tried"]
    for own, changes in ((learned.learned_from(), False), (tuning.frames_aside(learned, COUNT), True)):
        grey = learned.frames.grey.copy()
        grey[own] = 255 - grey[own]
        other = replace(learned, frames=replace(learned.frames, grey=grey))
        tune(generator, other, tmp_path / str(changes), GRID, COUNT, 1)
        after = json.loads((tmp_path / str(changes) / "tune.json").read_text())["tried"]
        assert (after != before) is changes


def test_a_killed_choice_draws_nothing_twice(tuned, generator, learned, monkeypatch):
    out, chosen, _ = tuned
    drawn = []
    monkeypatch.setattr(tuning, "solved", lambda *arguments: drawn.append(1))
    assert tune(generator, learned, out, GRID, COUNT, 1) == chosen
    assert not drawn
    with pytest.raises(RunDiffersError):
        tune(generator, learned, out, GRID, COUNT, 2)


def tried(steps: int, kid_value: float, by_half: list[float]) -> Tried:
    return Tried(Solver(steps), kid_value, np.array(by_half), np.zeros((1, 8, 8), np.uint8))


def test_fewer_steps_are_taken_unless_they_are_told_to_be_worse():
    rising = np.linspace(0, 1, 200)
    few = tried(8, 0.11, (rising + np.linspace(-0.02, 0.04, 200)).tolist())
    worse = tried(8, 0.15, (rising + np.linspace(0.04, 0.06, 200)).tolist())
    usual, most = tried(12, 0.12, (rising + 0.02).tolist()), tried(24, 0.10, rising.tolist())
    assert fewest_steps([few, usual, most]).solver.steps == 8
    assert fewest_steps([worse, usual, most]).solver.steps == 24
    assert fewest_steps([worse, most]).solver.steps == 24


def test_sample_draws_with_what_was_chosen(made_data, stage, tmp_path, tuned, generator):
    model = ["--model", str(stage / "product")]
    out = tmp_path / "choice"
    options = ["--data", str(made_data), *model, "--out", str(out), "--count", "4"]
    own = CliRunner().invoke(app, ["tune", *options, "--guidance", "3", "--steps", "1", "--at", "1"])
    assert own.exit_code == 0, own.output
    assert "Chosen: guidance 3, 1 steps" in own.output
    assert CliRunner().invoke(app, ["tune", *options, "--guidance", "much"]).exit_code == 2
    assert CliRunner().invoke(app, ["tune", *options, "--steps", "1.5"]).exit_code == 2
    drawing = ["sample", *model, "--out", str(tmp_path / "drawn"), "--count", "2", "--devices", "U-Systems"]
    choice = ["--solver", str(tuned[0] / "tune.json")]
    assert CliRunner().invoke(app, [*drawing, *choice, "--steps", "3"]).exit_code == 2
    drawn = CliRunner().invoke(app, [*drawing, *choice])
    assert drawn.exit_code == 0, drawn.output
    rows = pq.read_table(tmp_path / "drawn" / "table").to_pylist()
    assert {(row["steps"], row["guidance"]) for row in rows} == {(tuned[1].steps, tuned[1].guidance)}
    with pytest.raises(DataError, match="chosen for the generator"):
        chosen_solver(tuned[0] / "tune.json", "0" * 64)


CHOICE = {"steps": 2, "guidance": 1.5, "interval": [0.1, 0.9]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": "x"},
        {"steps": True},
        {"guidance": float("inf")},
        {"guidance": float("nan")},
        {"guidance": 1000},
        {"interval": [0.1]},
        {"interval": [0.9, 0.1]},
        {"interval": None},
    ],
)
def test_a_choice_that_no_solver_takes_is_refused(tmp_path, wrong):
    path = tmp_path / "tune.json"
    path.write_text(json.dumps({"model": "m", "solver": CHOICE}))
    assert chosen_solver(path, "m") == Solver(2, 1.5)
    path.write_text(json.dumps({"model": "m", "solver": {**CHOICE, **wrong}}))
    with pytest.raises(DataError):
        chosen_solver(path, "m")
