"""The study of usefulness on tiny data: arms differ in their pictures alone, kills, halves, the probe."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.data.busbra import DEVELOPMENT_FOLDS, read_busbra  # noqa: E402
from models.data.record import DataError  # noqa: E402
from models.diagnosis import train as diagnosis  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.draw import Asked  # noqa: E402
from models.generation.flow import Solver  # noqa: E402
from models.generation.repository import Shard, fill  # noqa: E402
from models.generation.study import run  # noqa: E402
from models.generation.study.arms import (  # noqa: E402
    DIAGNOSIS,
    diagnosis_set,
    largest,
    lesion_rows,
    segmentation_set,
)
from models.generation.study.cli import generator_facts  # noqa: E402
from models.generation.study.probe import Backgrounds, fit_probe, without_lesion  # noqa: E402
from models.generation.study.run import Study, StudySettings, halves, run_study  # noqa: E402
from models.segmentation import train as segmentation  # noqa: E402
from models.training.run import RunDiffersError  # noqa: E402

ASKED = Asked(0.1, 0.5, 0.3, ("GE Logiq 5", "GE Logiq 7"), 0.3, 0.3)
SETTINGS = StudySettings(
    replace(diagnosis.DEFAULTS, epochs=1, batch_size=4),
    replace(segmentation.DEFAULTS, epochs=1, batch_size=4),
    seeds=(1,),
)
ARM = {arm.name: arm for arm in DIAGNOSIS}


@pytest.fixture(scope="module")
def repository(generator, tmp_path_factory):
    """48 pictures of the small generator."""
    out = tmp_path_factory.mktemp("drawn")
    fill(generator, out, ASKED, Solver(steps=1), 5, Shard(0, 48))
    return out


@pytest.fixture(scope="module")
def parts(made_data, stage):
    return halves(read_busbra(made_data), generator_facts(stage / "product"), DEVELOPMENT_FOLDS)


def test_nobody_is_judged_who_was_learned_from(parts, made_data, stage):
    learned, judged = parts
    assert {record.fold for record in learned} == {1, 2}
    assert {record.fold for record in judged} == {3, 4}
    assert not {r.patient_id for r in learned} & {r.patient_id for r in judged}
    facts = generator_facts(stage / "product")
    with pytest.raises(DataError, match="no patient is left to judge"):
        halves(read_busbra(made_data), {**facts, "folds": [1, 2, 3, 4]}, DEVELOPMENT_FOLDS)
    with pytest.raises(DataError, match="other images"):
        halves(read_busbra(made_data), {**facts, "data_hash": "0"}, DEVELOPMENT_FOLDS)


def test_the_arms_are_what_they_are_called(parts, repository):
    learned = parts[0]
    sets = {name: diagnosis_set(ARM[name], learned, repository) for name in ("real", "gen-1", "both")}
    n = len(learned)
    assert [len(one.crops) for one in sets.values()] == [n, n, 4 * n]
    for one in sets.values():
        share = one.weight / one.weight.sum()
        assert share[one.malignant > 0].sum() == pytest.approx(0.5, abs=1e-5), "both classes weigh the same"
    both = sets["both"]
    assert both.weight[:n].sum() == pytest.approx(float(both.weight[n:].sum())), "half real, half generated"
    assert torch.equal(both.crops[:n], sets["real"].crops)
    assert torch.equal(both.crops[n : 2 * n], sets["gen-1"].crops)
    rows = lesion_rows(repository, n)
    assert [row.lesion_class == "malignant" for row in rows] == sets["gen-1"].malignant.bool().tolist()
    squares, weight = segmentation_set(ARM["both"], learned, repository)
    assert len(squares.grey) == len(weight) == 4 * n
    assert (squares.mask.reshape(4 * n, -1).max(1) == 255).all(), "every picture shows a lesion"
    with pytest.raises(DataError, match="draw more with busmap generator sample"):
        lesion_rows(repository, 49)


def test_the_largest_of_two_lesions():
    mask = np.zeros((20, 20), bool)
    mask[2:4, 2:4] = mask[8:16, 8:16] = True
    assert largest(mask).sum() == 64


def test_a_study_goes_on_where_it_was_stopped(parts, repository, tmp_path, monkeypatch):
    study = Study(*parts, repository, tmp_path, SETTINGS)
    assert not run_study(study, {}, only=["real"], minutes=0), "no arm begins after its time"
    assert not (tmp_path / "diagnosis").exists()
    assert not run_study(study, {}, only=["real", "gen-1"])
    rows = pq.read_table(tmp_path / "diagnosis.parquet").to_pylist()
    assert {row["arm"] for row in rows} == {"real", "gen-1"}
    assert {row["image_id"] for row in rows} == {record.image_id for record in parts[1]}
    assert len(rows) == 2 * len(parts[1])
    dice = pq.read_table(tmp_path / "segmentation.parquet").to_pylist()
    assert {row["arm"] for row in dice} == {"real"}
    assert all(0 <= row["dice"] <= 1 for row in dice)
    assert len(pq.read_table(tmp_path / "shortcut.parquet")) == len(rows)
    weights = tmp_path / "diagnosis" / "gen-1-seed1" / "weights.pt"
    before = weights.stat().st_mtime_ns
    trained = []
    monkeypatch.setattr(run.diagnosis, "fit_on", lambda *a, **k: trained.append(1))
    run_study(study, {}, only=["real", "gen-1"])
    assert weights.stat().st_mtime_ns == before
    assert not trained, "what is done is not done again"
    history = json.loads((weights.parent / "history.json").read_text())
    assert len(history) == 1
    assert json.loads((tmp_path / "study.json").read_text())["arms"]["gen-10"] == {"real": False, "times": 10}


def test_a_study_goes_on_with_its_own_pictures_alone(parts, repository, generator, tmp_path):
    study = Study(*parts, repository, tmp_path / "study", SETTINGS)
    run_study(study, {}, only=["gen-1"])
    pinned = tmp_path / "study" / "diagnosis" / "gen-1-seed1" / "pictures.json"
    facts = json.loads(pinned.read_text())
    assert facts["rows"] == len(parts[0])

    def gone_on_with(other):
        return run_study(replace(study, repository=other), {}, only=["gen-1"])

    fill(generator, tmp_path / "seed", ASKED, Solver(steps=1), 6, Shard(0, 48))
    with pytest.raises(RunDiffersError, match="gen-1-seed1"):
        gone_on_with(tmp_path / "seed")
    grown = tmp_path / "grown"
    shutil.copytree(repository, grown)
    fill(generator, grown, ASKED, Solver(steps=1), 5, Shard(0, 50))
    gone_on_with(grown)
    assert json.loads(pinned.read_text()) == facts, "one that has grown is the same"
    (table,) = (grown / "table").iterdir()
    rows = pq.read_table(table).to_pylist()
    next(row for row in rows if row["lesions"])["image_sha256"] = "0" * 64
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(table)), table)
    with pytest.raises(RunDiffersError):
        gone_on_with(grown)
    (grown / "repository.json").unlink()
    with pytest.raises(DataError, match=r"repository\.json cannot be read"):
        gone_on_with(grown)


def test_the_verb_refuses_another_generator_s_pictures(made_data, stage, repository, tmp_path):
    def invoke(*more):
        options = ["--data", made_data, "--model", stage / "product", "--out", tmp_path / "study", *more]
        return CliRunner().invoke(app, ["study", *map(str, options)])

    wrong = tmp_path / "wrong" / "table"
    wrong.mkdir(parents=True)
    rows = pq.read_table(repository / "table").to_pylist()
    pq.write_table(pa.Table.from_pylist([{**rows[0], "model": "0" * 64}]), wrong / "0.parquet")
    refused = invoke("--repository", wrong.parent)
    assert refused.exit_code == 10
    assert "was not drawn from" in " ".join(refused.output.split())
    assert invoke("--repository", repository, "--arms", "fake").exit_code == 2
    assert invoke("--repository", repository, "--minutes", "0").exit_code == 0


def test_the_probe_sees_no_lesion():
    random = np.random.default_rng(0)
    grey = random.integers(60, 120, (128, 128)).astype(np.uint8)
    mask = np.zeros((128, 128), bool)
    mask[50:80, 40:90] = True
    one = without_lesion(grey, mask)
    changed = grey.copy()
    changed[mask] = 255 - changed[mask]
    assert np.array_equal(one, without_lesion(changed, mask)), "nothing of the lesion is left"
    ys, xs = np.nonzero(one != grey)
    assert (ys.min(), ys.max() + 1) == (44, 86), "the box grown by a fifth on each side"
    assert (xs.min(), xs.max() + 1) == (30, 100)
    assert len(np.unique(one[44:86, 30:100])) == 1
    whole = without_lesion(grey, np.ones((128, 128), bool))
    assert len(np.unique(whole)) == 1


def test_the_probe_finds_a_shortcut_that_is_there():
    random = np.random.default_rng(1)
    malignant = np.arange(200) % 2 == 0
    features = random.standard_normal((200, 30)).astype(np.float32)
    blind = Backgrounds(features.copy(), malignant, [f"p{i // 2}" for i in range(200)], np.ones(200))
    features[:, 3] += 2 * malignant
    model, _ = fit_probe(Backgrounds(features, malignant, blind.owners, blind.weight), 1)
    fresh = random.standard_normal((200, 30)).astype(np.float32)
    nothing = fit_probe(blind, 1)[0].decision_function(fresh)
    fresh[:, 3] += 2 * malignant
    found = model.decision_function(fresh)
    from sklearn.metrics import roc_auc_score

    assert roc_auc_score(malignant, found) > 0.85
    assert 0.38 < roc_auc_score(malignant, nothing) < 0.62
