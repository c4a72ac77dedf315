"""`busmap validate gate`: every frame judged by a gate that did not see it, and figures with intervals."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from models.data.busbra import read_busbra
from models.training import fit_gate
from tests.models.made_sets import make_busbra
from tests.operators.made_files import image, save, speckle
from validation import gate as measured
from validation.cli import app
from validation.gate import Verdict, shares

FIT = ("by fold", "by device")


def verdict(**changed):
    plain = {"picture": "a", "patient_id": "p", "group": "by fold", "held_out": "fold 1", "varied": False}
    return Verdict(**{**plain, "distance": 1.0, "threshold": 2.0, "rule": "", "kind": "", **changed})


def test_shares_count_what_the_product_sets_aside_and_judge_their_bounds():
    frames = [verdict(picture=str(number)) for number in range(96)]
    rows = [
        *frames,
        verdict(distance=3.0),
        verdict(rule="needle-in-view"),
        verdict(distance=3.0, varied=True),
    ]
    rows += [verdict(group="other organ: lung", distance=3.0)] * 4 + [verdict(group="other organ: lung")]
    rows += [verdict(group="far: page", rule="text-screen")] * 9 + [verdict(group="far: page")]
    found = {one.name: one for one in shares(rows)}
    breast = found["breast frames set aside, held out by fold"]
    assert (breast.share.count, breast.share.total, breast.met) == (2, 98, True)
    assert breast.share.interval.low < 2 / 98 < breast.share.interval.high
    assert found["their varied copies refused, held out by fold"].met is False
    assert found["breast frames against which a rule on pixels speaks"].share.count == 1
    assert found["other organ: lung: set aside"].met is True
    assert found["far: page: set aside"].met is False
    assert found["far: page: refused by the gate alone"].share.count == 0
    assert not [name for name in found if "by device" in name]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(fit_gate, "MINIMUM_FRAMES", 2)
    monkeypatch.setattr(measured, "DRAWN_EACH", 1)
    monkeypatch.setattr(measured, "_SECTIONS", measured._SECTIONS[1:2])


def test_the_verb_judges_every_frame_once_by_fold_and_once_by_device(tmp_path, small):
    data = make_busbra(tmp_path / "data", patients=15, size=(48, 64))
    far, organ = tmp_path / "far", tmp_path / "organ"
    for folder in (far, organ):
        folder.mkdir()
    Image.fromarray(np.full((90, 90, 3), 200, np.uint8)).save(far / "paper.png")
    save(image(speckle(128, 128)), organ / "speckle.dcm")
    arguments = [
        "gate",
        data,
        "--out",
        tmp_path / "out",
        "--far",
        far,
        "--other-organ",
        organ,
        "--threads",
        1,
    ]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    rows = pq.read_table(tmp_path / "out" / "gate.parquet").to_pylist()
    used = [one for one in read_busbra(data) if one.fold != 5]
    for group in FIT:
        counted = Counter((row["picture"], row["varied"]) for row in rows if row["group"] == group)
        assert counted == {(one.image_id, varied): 1 + varied for one in used for varied in (False, True)}
    by_fold = {row["picture"]: row["held_out"] for row in rows if row["group"] == "by fold"}
    assert by_fold == {one.image_id: f"fold {one.fold}" for one in used}
    assert [row["set_aside"] for row in rows if row["group"] == "far: far"] == [True]
    assert len([row for row in rows if row["group"] == "other organ: organ"]) == 1
    assert all(row["set_aside"] == (row["refused"] or bool(row["rule"])) for row in rows)
    page = (tmp_path / "out" / "gate.html").read_text()
    assert "not a cleared device" in page
    assert "held out by device" in page
    assert "95%" in page or "interval" in page


def test_a_folder_without_pictures_is_named(tmp_path, small):
    data = make_busbra(tmp_path / "data", patients=5, size=(48, 64))
    (tmp_path / "empty").mkdir()
    arguments = ["gate", data, "--out", tmp_path / "out", "--far", tmp_path / "empty"]
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 10
    assert "holds no picture" in done.output
