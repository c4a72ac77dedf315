"""Ways to make speckle, compared on tiny data: who has a say in what, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.train
pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.data.busbra import read_busbra  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.study import speckle_compare, speckle_ways  # noqa: E402
from models.generation.study.speckle_compare import auc_error, compare_speckle  # noqa: E402
from models.generation.study.speckle_ways import rebuilt  # noqa: E402
from models.generation.study.tune import frames_aside  # noqa: E402
from models.training.run import RunDiffersError  # noqa: E402

COUNT = 8


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Ten halves, and scatterers fitted to few frames, say as well as many that all is wired up."""
    whole = speckle_compare.patient_halves
    monkeypatch.setattr(speckle_ways, "_FITTED", 8)
    monkeypatch.setattr(speckle_compare, "patient_halves", lambda *arguments: whole(*arguments)[:10])


def compared(generator, learned, out):
    names = compare_speckle(generator, learned, out, COUNT, 1)
    return names, json.loads((out / "speckle.json").read_text())


def test_every_way_is_measured_on_those_set_aside_and_fitted_to_the_others(generator, learned, tmp_path):
    names, content = compared(generator, learned, tmp_path / "first")
    owners = {record.image_id: record.patient_id for record in learned.records}
    assert {owners[name] for name in names} == set(learned.aside)
    assert (content["model"], content["frames"], content["patients"]) == (generator.digest, COUNT, 3)
    ways = content["ways"]
    assert set(ways) == {"drawn", "silenced", "scattered", "regrained"}
    assert content["least_kid"] == min(ways, key=lambda name: ways[name]["kid"]["value"])
    assert len({one["kid"]["value"] for one in ways.values()}) == 4
    for one in ways.values():
        low, high = one["kid"]["interval"]
        assert low <= one["kid"]["value"] <= high
    assert ways["drawn"]["kid"]["minus_drawn"] == 0
    moved = {name: one["statistics"]["moved"]["median"] for name, one in ways.items()}
    assert moved["silenced"] == 0
    assert min(moved["drawn"], moved["scattered"], moved["regrained"]) > 0
    shown = np.asarray(Image.open(tmp_path / "first" / "speckle.png"))
    assert shown.shape == (5 * (128 + 16), 3 * 128)

    grey = learned.frames.grey.copy()
    judged = frames_aside(learned, COUNT)
    grey[judged] = 255 - grey[judged]
    _, other = compared(
        generator, replace(learned, frames=replace(learned.frames, grey=grey)), tmp_path / "other"
    )
    assert other["scattering"] == content["scattering"], "those judged have no say in the fit"
    assert other["ways"]["drawn"]["kid"]["value"] != ways["drawn"]["kid"]["value"]
    with pytest.raises(RunDiffersError):
        compare_speckle(generator, learned, tmp_path / "first", COUNT, 2)


def test_silence_is_the_same_for_every_seed_and_noise_is_not(generator, learned):
    chosen = frames_aside(learned, COUNT)
    quiet, one, again, other = (rebuilt(generator, learned, chosen, seed) for seed in (None, 1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()
    assert (one != quiet).any()


def test_the_verb_names_what_notice_has_to_name(made_data, stage, tmp_path):
    out = tmp_path / "speckle"
    options = {"--data": made_data, "--model": stage / "product", "--out": out, "--count": COUNT}
    done = CliRunner().invoke(app, ["speckle", *(str(part) for pair in options.items() for part in pair)])
    assert done.exit_code == 0, done.output
    images = {record.image_id for record in read_busbra(made_data) if record.fold in (1, 2)}
    named = done.output.strip().splitlines()[-1].rpartition("pictures ")[2].split(", ")
    assert named
    assert set(named) <= images
    assert json.loads((out / "speckle.json").read_text())["frames"] == COUNT


def test_the_standard_error_is_that_of_hanley_and_mcneil():
    """As docs/protocol-generator.md plans with: 137 of 427 malignant, AUC 0.90."""
    assert auc_error(0.90, 137, 290) == pytest.approx(0.0184, abs=5e-5)
