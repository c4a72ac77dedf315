"""The generator's verbs where nothing can be trained: what they refuse and how they exit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from models.generation.cli import app, fold_numbers, shard_numbers
from tests.models.made_sets import make_busbra

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from models.generation.cli import app
app()
"""


def test_the_folds_asked_for():
    assert fold_numbers("1,2") == (1, 2)
    assert fold_numbers("3, 1,3") == (1, 3)
    for wrong in ("5", "1,5", "", "a", "1;2"):
        with pytest.raises(typer.BadParameter, match="5 confirms only"):
            fold_numbers(wrong)


def test_the_share_asked_for():
    assert shard_numbers("2/8") == (2, 8)
    for wrong in ("0/2", "3/2", "1", "a/b", "/", "-1/2", "", "²/²", "1/1/1", "9" * 5000 + "/1"):
        with pytest.raises(typer.BadParameter, match="second of eight"):
            shard_numbers(wrong)


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_without_torch_the_extra_is_named(tmp_path, verb):
    data = make_busbra(tmp_path / "data", patients=5)
    options = ["--data", data] if verb == "train" else ["--model", tmp_path]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, verb, *options, "--out", tmp_path / "out"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 9
    assert "is not installed; this verb needs the extra `train`: make setup-train" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("source", "more"),
    [
        ("--studies", ["--k", "16"]),
        ("--studies", ["--histology", "cyst"]),
        ("--studies", ["--folds", "1"]),
        ("--studies", ["--draw", "1"]),
        ("--data", ["--outlines", "masks"]),
    ],
)
def test_options_that_would_say_nothing_are_refused(tmp_path, source, more):
    given = ["adapt", "--base", str(tmp_path), "--out", str(tmp_path / "out"), source, str(tmp_path), *more]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2
    beside = "--data" if source == "--studies" else "--studies"
    assert f"{more[0]} goes with {beside} alone" in " ".join(result.output.split())


@pytest.mark.parametrize("steps", ["inf", "nan", "0", "1.5", "1e9", "many"])
def test_steps_that_no_solver_takes_are_refused(tmp_path, steps):
    given = ["tune", "--data", "x", "--model", "x", "--out", str(tmp_path / "out"), "--steps", steps]
    assert CliRunner().invoke(app, given).exit_code == 2
    given[-2:] = ["--guidance", "1,nan"]
    assert CliRunner().invoke(app, given).exit_code == 2


def test_help_needs_no_torch():
    for arguments in ([], ["train"], ["sample"], ["adapt"]):
        result = CliRunner().invoke(app, [*arguments, "--help"])
        assert result.exit_code == 0
        assert "Traceback" not in result.output
