"""The training verbs where nothing can be trained: what they say and how they exit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from models.training.cli import app, held_out_folds
from tests.models.made_sets import make_busbra

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from models.training.cli import app
app()
"""


def test_the_folds_asked_for():
    assert held_out_folds("cv") == (1, 2, 3, 4)
    assert held_out_folds("final") == (None,)
    assert held_out_folds("3") == (3,)
    for wrong in ("5", "0", "all", ""):
        with pytest.raises(typer.BadParameter, match="5 confirms only"):
            held_out_folds(wrong)


@pytest.mark.parametrize("verb", ["lesion", "diagnosis", "publish"])
def test_without_torch_the_extra_is_named(tmp_path, verb):
    data = make_busbra(tmp_path / "data", patients=5)
    options = ["--runs", tmp_path, "--bundles", tmp_path] if verb == "publish" else ["--out", tmp_path]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, verb, "--data", data, *options],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 9
    assert "torch is not installed; this verb needs the extra `train`: make setup-train" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_needs_no_torch():
    for arguments in ([], ["lesion"], ["diagnosis"], ["publish"]):
        result = CliRunner().invoke(app, [*arguments, "--help"])
        assert result.exit_code == 0
        assert "Traceback" not in result.output
