"""Privacy measured: a planted copy, planted twins and a generator that knows its pictures must show."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from models.data.busbra import read_busbra  # noqa: E402
from models.data.record import DataError  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.draw import Asked  # noqa: E402
from models.generation.flow import FlowSettings, Solver  # noqa: E402
from models.generation.frames import FrameSet  # noqa: E402
from models.generation.nearest import load_index  # noqa: E402
from models.generation.pool import Pool  # noqa: E402
from models.generation.repository import Shard, fill  # noqa: E402
from models.generation.study.membership import losses  # noqa: E402
from models.generation.study.privacy import half_of, measure_privacy  # noqa: E402
from models.generation.train_flow import FlowTraining, encode, train_flow  # noqa: E402
from models.training.run import RunDiffersError  # noqa: E402
from validation.cli import app as validate  # noqa: E402
from validation.generator.judge import sections_of  # noqa: E402

ASKED = Asked(0.0, 0.5, 0.0, ("GE Logiq 5", "GE Logiq 7"), 0, 0)
COUNT = 24


@pytest.fixture(scope="module")
def repository(generator, tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn")
    fill(generator, out, ASKED, Solver(steps=1), 5, Shard(0, COUNT))
    return out


@pytest.fixture(scope="module")
def both_halves(made_data, generator, tmp_path_factory):
    records, cache = read_busbra(made_data), tmp_path_factory.mktemp("frames")
    own, others = ([r for r in records if r.fold in folds] for folds in ((1, 2), (3, 4)))
    free = {**generator.facts, "validation_patients": ()}
    return half_of(own, generator.facts, cache), half_of(others, free, cache)


def judged(generator, both_halves, repository, out):
    measure_privacy(generator, *both_halves, repository, out, COUNT)
    return sections_of(out, 100, 1)[0].figures


def test_planted_copies_and_twins_are_counted(generator, both_halves, repository, tmp_path):
    clean = judged(generator, both_halves, repository, tmp_path / "clean")
    planted = tmp_path / "planted"
    shutil.copytree(repository, planted)
    learned = both_halves[0]
    original = learned.frames.grey[learned.first_lesion_views()[0]]
    moved = np.roll(original, (2, -2), (0, 1))[:, ::-1]
    for index, copy in ((3, moved), (7, moved), (11, (original * 0.8).astype(np.uint8))):
        Image.fromarray(np.ascontiguousarray(copy)).save(planted / "images" / "000" / f"{index:06d}.png")
    caught = judged(generator, both_halves, planted, tmp_path / "caught")
    for way, least in (("pixel", 3), ("feature", 2)):
        more = caught.copies[way].count.count - clean.copies[way].count.count
        assert more >= least, way
    rows = pq.read_table(tmp_path / "caught" / "twins.parquet").to_pylist()
    twins = {(row["first"], row["second"]) for row in rows if row["pixel_distance"] < 0.05}
    assert twins == {("3", "7"), ("3", "11"), ("7", "11")}
    for way in ("pixel", "feature"):
        assert caught.duplicates[way].share.value > clean.duplicates[way].share.value, way
    assert not caught.copies["pixel"].passed
    facts = json.loads((tmp_path / "clean" / "privacy.json").read_text())
    drawn = json.loads((repository / "repository.json").read_text())
    assert facts["drawn_with"] == drawn
    assert (drawn["solver"]["steps"], drawn["seed"], drawn["kept_away_from"]) == (1, 5, "")
    other = tmp_path / "other"
    fill(generator, other, ASKED, Solver(steps=1), 6, Shard(0, COUNT))
    with pytest.raises(RunDiffersError):
        measure_privacy(generator, *both_halves, other, tmp_path / "clean", COUNT)
    rows = pq.read_table(tmp_path / "caught" / "neighbours.parquet").to_pylist()
    by_id = {row["id"]: row for row in rows if row["kind"] == "generated"}
    assert by_id["3"]["pixel_patient"] == learned.records[0].patient_id
    assert by_id["3"]["pixel_distance"] < 0.05
    assert {row["id"] for row in rows if row["kind"] == "other"} == {
        r.image_id for r in both_halves[1].records
    }
    member = pq.read_table(tmp_path / "clean" / "membership.parquet").to_pylist()
    parts = {row["patient_id"]: row["part"] for row in member}
    assert {p for p, part in parts.items() if part == "aside"} == set(generator.facts["validation_patients"])


def pool_of(frames: FrameSet) -> Pool:
    count = len(frames.grey)
    return Pool(
        *(torch.from_numpy(part).unsqueeze(1) for part in (frames.grey, frames.mask, frames.marks)),
        torch.from_numpy(frames.labels),
        torch.from_numpy(frames.zoom),
        torch.full((count,), 1 / count, dtype=torch.float64),
    )


def chosen(frames: FrameSet, index) -> FrameSet:
    parts = {name: getattr(frames, name)[index] for name in vars(frames)}
    return FrameSet(**{**parts, "source": np.arange(len(index))})


def test_what_is_known_by_heart_is_found_out(generator, both_halves, tmp_path):
    """A flow trained on 16 frames until it knows them: its loss on them is lower than on 16 others."""
    first, second = (
        chosen(half.frames, np.flatnonzero(half.shows_lesion())[::5][:16]) for half in both_halves
    )
    pool = pool_of(first)
    settings = FlowTraining()
    settings = replace(
        settings,
        network=FlowSettings(4, (32, 32), 1, 0.0, 8, 8),
        steps_per_epoch=90,
        loop=replace(settings.loop, epochs=2, batch_size=16, learning_rate=3e-3, ema_decay=0.95),
    )
    latents = encode(generator.autoencoder, pool, tmp_path, "known", generator.device)
    fitted = train_flow((pool, latents), (pool, latents), tmp_path / "flow", settings, generator.device)
    knowing = replace(generator, flow=fitted.network)
    truth = np.arange(32) < 16

    def area(model):
        return roc_auc_score(
            truth, -np.concatenate([losses(model, part, 16, 1, draws=8) for part in (first, second)])
        )

    assert area(knowing) > 0.9
    assert area(generator) < 0.8
    again = losses(knowing, first, 16, 1, draws=8)
    assert np.array_equal(again, losses(knowing, first, 16, 1, draws=8)), "the same draws every time"
    assert not np.array_equal(again, losses(knowing, first, 16, 2, draws=8))


def test_the_verbs_index_and_privacy(made_data, stage, repository, tmp_path):
    model = ["--data", made_data, "--model", stage / "product"]
    index = tmp_path / "index" / "near.npz"
    made = CliRunner().invoke(app, list(map(str, ["index", *model, "--out", index])))
    assert made.exit_code == 0, made.output
    near = load_index(index)
    assert set(near.thresholds) == {"lesion", "tissue"}
    assert all(0 < value < 2 for value in near.thresholds.values())
    less = tmp_path / "less" / "near.npz"
    made = CliRunner().invoke(app, list(map(str, ["index", *model, "--out", less, "--quantile", "0.01"])))
    assert made.exit_code == 0, made.output
    assert load_index(less).thresholds["lesion"] < near.thresholds["lesion"], "fewer are thrown away"
    drawn = ["sample", "--model", stage / "product", "--out", tmp_path / "kept", "--count", 4, "--steps", 1]
    devices = ["--devices", "U-Systems", "--keep-away", index]
    kept = CliRunner().invoke(app, list(map(str, [*drawn, *devices])))
    assert kept.exit_code == 0, kept.output
    assert "Thrown away" in kept.output
    few = ["privacy", *model, "--repository", repository, "--out", tmp_path / "privacy", "--count", COUNT + 1]
    refused = CliRunner().invoke(app, list(map(str, few)))
    assert refused.exit_code == 10
    assert "draw more" in " ".join(refused.output.split())
    measured = [*few[:-1], COUNT]
    done = CliRunner().invoke(app, list(map(str, measured)))
    assert done.exit_code == 0, done.output
    assert "busmap validate generator" in " ".join(done.output.split())
    report = CliRunner().invoke(
        validate, ["generator", str(tmp_path / "privacy"), "--out", str(tmp_path / "report")]
    )
    assert report.exit_code == 0, report.output
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())["privacy"]
    judged_by_hand = [r for r in read_busbra(made_data) if r.fold in (3, 4)]
    assert (figures["generated"], figures["real"]) == (COUNT, len(judged_by_hand))
    assert figures["epochs"] == 3
    with pytest.raises(DataError):
        load_index(tmp_path / "none.npz")
