"""The page of real and generated pictures: chosen by the seed, nobody shown twice, a key that is true."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytestmark = pytest.mark.train
pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.data.busbra import read_busbra  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.draw import Asked  # noqa: E402
from models.generation.flow import Solver  # noqa: E402
from models.generation.repository import Shard, fill, picture_paths, read_rows  # noqa: E402
from models.generation.study import page  # noqa: E402
from models.generation.study.pin import pin_of  # noqa: E402
from models.generation.study.privacy import half_of  # noqa: E402

ASKED = Asked(0.3, 0.5, 0.0, ("GE Logiq 5", "GE Logiq 7"), 0, 0)
ROW = re.compile(r"^\| (\d+) \| (real|generated) \| (.+) \|$", re.MULTILINE)


@pytest.fixture(autouse=True)
def small_page(monkeypatch):
    monkeypatch.setattr(page, "ROWS", 3)
    monkeypatch.setattr(page, "COLUMNS", 4)


def tile(sheet, number, side=128):
    row, column = divmod(number - 1, page.COLUMNS)
    top = row * (side + page.GAP_PX + page.STRIP_PX) + page.STRIP_PX
    left = column * (side + page.GAP_PX)
    return sheet[top : top + side, left : left + side]


def test_the_page_shows_what_its_key_says(made_data, stage, generator, tmp_path):
    repository = tmp_path / "drawn"
    fill(generator, repository, ASKED, Solver(steps=1), 5, Shard(0, 16))

    def call(out, seed=1):
        options = {"--data": made_data, "--model": stage / "product", "--repository": repository}
        options |= {"--out": out, "--seed": seed}
        return CliRunner().invoke(app, ["page", *(str(part) for pair in options.items() for part in pair)])

    done = call(tmp_path / "page")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "page" / "real-and-generated.md").read_text()
    key = {int(number): (kind, name) for number, kind, name in ROW.findall(text)}
    assert sorted(key) == list(range(1, 13))
    real = [name for kind, name in key.values() if kind == "real"]
    assert len(real) == 6
    own = {record.image_id: record for record in read_busbra(made_data) if record.fold in (1, 2)}
    assert len({own[name].patient_id for name in real}) == 6, (
        "one picture a patient, of the half learned from"
    )
    assert all(name in done.output for name in real), "named for NOTICE"
    pictures, masks = (
        np.asarray(Image.open(tmp_path / "page" / f"real-and-generated{end}.png")) for end in ("", "-masks")
    )
    assert pictures.shape == masks.shape
    half = half_of(list(own.values()), generator.facts, tmp_path / "frames")
    names = [record.image_id for record in half.records]
    for number, (kind, name) in key.items():
        if kind == "real":
            view = half.first_lesion_views()[names.index(name)]
            grey, mask = half.frames.grey[view], half.frames.mask[view] * 255
        else:
            paths = picture_paths(repository, int(name.removeprefix("image ")))
            grey, mask = (np.asarray(Image.open(path)) for path in paths)
        assert np.array_equal(tile(pictures, number), grey)
        assert np.array_equal(tile(masks, number), mask)
        assert mask.any(), "every one shows a lesion"
    call(tmp_path / "again")
    call(tmp_path / "other", seed=2)
    again, other = ((tmp_path / one / "real-and-generated.md").read_text() for one in ("again", "other"))
    assert again == text
    pictures = pin_of(repository, read_rows(repository))["pictures"]
    assert f"into the repository {pictures[:12]}" in text
    assert ROW.findall(other) != ROW.findall(text)


def test_too_few_pictures_make_no_page(made_data, stage, generator, tmp_path):
    repository = tmp_path / "drawn"
    fill(generator, repository, ASKED, Solver(steps=1), 5, Shard(0, 3))
    options = ["--data", made_data, "--model", stage / "product", "--repository", repository]
    refused = CliRunner().invoke(app, ["page", *map(str, options), "--out", str(tmp_path / "page")])
    assert refused.exit_code == 10
    assert "the page shows 6" in " ".join(refused.output.split())
    assert not (tmp_path / "page").exists()


def test_too_few_pictures_are_told_before_frames_are_cut(made_data, stage, generator, tmp_path, monkeypatch):
    fill(generator, tmp_path / "drawn", ASKED, Solver(steps=1), 5, Shard(0, 1))
    monkeypatch.setattr("models.generation.study.cli.learned_half", lambda *given: pytest.fail("cut"))
    options = ["--data", made_data, "--model", stage / "product", "--repository", tmp_path / "drawn"]
    refused = CliRunner().invoke(app, ["page", *map(str, options), "--out", str(tmp_path / "page")])
    assert refused.exit_code == 10
