"""The verbs of the published configuration, with its network made small: from pictures to pictures."""

from __future__ import annotations

import csv
from functools import partial

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from models.generation.paper import train as training  # noqa: E402
from models.generation.paper.cli import app  # noqa: E402
from tests.models.generation.small import NETWORK, SIDE  # noqa: E402
from tests.models.made_sets import make_busbra  # noqa: E402


def verb(*arguments: object):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_from_a_data_set_to_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "PaperSettings", partial(training.PaperSettings, network=NETWORK))
    data, run = make_busbra(tmp_path / "data", patients=12, size=(40, 56)), tmp_path / "run"
    options = ["--folds", "1,2,3", "--side", SIDE, "--epochs", 1, "--batch-size", 2]
    trained = verb("train", "--data", data, "--out", run, *options)
    assert trained.exit_code == 0, trained.output
    other = verb("train", "--data", data, "--out", run, *options, "--seed", 2)
    assert other.exit_code == 12
    assert "a run with other settings" in " ".join(other.output.split())

    asked = ["sample", "--run", run, "--evaluations", 2]
    both = verb(*asked, "--out", tmp_path / "both", "--count", 3, "--seed", 5)
    assert both.exit_code == 0, both.output
    with (tmp_path / "both" / "samples.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["picture"] for row in rows] == ["5.png", "6.png", "7.png"]
    for row in rows:
        left, top, right, bottom = (float(row[name]) for name in ("left", "top", "right", "bottom"))
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert row["malignant"] in {"0", "1"}
        assert row["device"] in {"LOGIQ 7", "TOSHIBA Aplio", "U-Systems"}
    alone = verb(*asked, "--out", tmp_path / "alone", "--count", 1, "--seed", 6)
    assert alone.exit_code == 0, alone.output
    pictures = [np.asarray(Image.open(tmp_path / name / "6.png")) for name in ("both", "alone")]
    assert pictures[0].shape == (SIDE, SIDE)
    assert np.array_equal(*pictures), "a picture depends on its own seed alone"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["train", "--folds", "4,5"], 2, "5 confirms only"),
        (["train", "--side", "100"], 2, "no multiple of 8"),
        (["train"], 10, "bus_data.csv is missing"),
        (["sample"], 10, "run.json is missing"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, arguments, status, said):
    folder = "--run" if arguments[0] == "sample" else "--data"
    result = verb(*arguments, folder, tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == status, result.output
    assert said in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output
