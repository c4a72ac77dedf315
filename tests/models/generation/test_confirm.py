"""The confirmation: the stored arms score once, what they score is theirs, a second look is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from models.data.breast import read_breast  # noqa: E402
from models.data.busbra import read_busbra  # noqa: E402
from models.diagnosis.network import DiagnosisNet  # noqa: E402
from models.diagnosis.train import logits_of, wide_crop  # noqa: E402
from models.generation.cli import app  # noqa: E402
from models.generation.study.confirm import ARMS, confirm  # noqa: E402
from models.generation.study.run import StudySettings  # noqa: E402
from models.runtime.preprocess import suppress_marks  # noqa: E402
from tests.models.made_sets import make_breast, make_busbra  # noqa: E402
from validation.cli import app as validate  # noqa: E402
from validation.statistics.roc import empirical_auc  # noqa: E402


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return make_busbra(root / "busbra", patients=40), make_breast(root / "breast")


@pytest.fixture
def study(finished, tmp_path):
    """A finished study that nobody confirmed yet."""
    shutil.copytree(finished, tmp_path / "study")
    return tmp_path / "study"


def judged(arm: str, seed: int):
    """Rows of the study: patients of other folds, two pictures each, malignant ones higher."""
    return [
        {
            "arm": arm,
            "seed": seed,
            "image_id": f"judged-{patient}-{picture}",
            "patient_id": f"judged-{patient}",
            "device": "GE Logiq 5",
            "malignant": patient % 2 == 1,
            "logit": 0.1 * patient + 2.0 * (patient % 2) + 0.01 * seed,
        }
        for patient in range(40)
        for picture in range(2)
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study whose arms are done, of two seeds, with weights by chance."""
    out = tmp_path_factory.mktemp("study")
    settings = replace(StudySettings(), seeds=(1, 2))
    out.joinpath("study.json").write_text(
        json.dumps({"settings": asdict(settings), "generator": "0" * 64}, default=str)
    )
    for number, arm in enumerate(ARMS):
        for seed in settings.seeds:
            folder = out / "diagnosis" / f"{arm}-seed{seed}"
            folder.mkdir(parents=True)
            torch.manual_seed(10 * number + seed)
            torch.save(DiagnosisNet(pretrained=False).state_dict(), folder / "weights.pt")
            pq.write_table(pa.Table.from_pylist(judged(arm, seed)), folder / "rows.parquet")
    return out


def call(sets, study, out):
    options = {"--data": sets[0], "--breast": sets[1], "--study": study, "--out": out}
    return CliRunner().invoke(app, ["confirm", *(str(part) for pair in options.items() for part in pair)])


def test_the_arms_score_once(sets, study, tmp_path):
    out = tmp_path / "confirmed"
    done = call(sets, study, out)
    assert done.exit_code == 0, done.output
    rows = pq.read_table(out / "confirm.parquet").to_pylist()
    fold = [record for record in read_busbra(sets[0]) if record.fold == 5]
    lesions = [record for record in read_breast(sets[1]) if record.mask_path]
    assert len(lesions) == 2, "the normal case is left out"
    for arm in ARMS:
        for seed in (1, 2):
            own = [row for row in rows if (row["arm"], row["seed"]) == (arm, seed)]
            assert [row["image_id"] for row in own] == [r.image_id for r in (*fold, *lesions)]
    network = DiagnosisNet(pretrained=False)
    weights = study / "diagnosis" / "gen-10-seed2" / "weights.pt"
    network.load_state_dict(torch.load(weights, weights_only=True))
    record = fold[3]
    crop = wide_crop(suppress_marks(record.grey()), record.mask())
    logit = float(logits_of(network.eval(), crop[None])[0])
    (row,) = [r for r in rows if (r["arm"], r["seed"], r["image_id"]) == ("gen-10", 2, record.image_id)]
    assert row["logit"] == pytest.approx(logit, abs=1e-4)
    frozen = pq.read_table(out / "frozen.parquet").to_pylist()
    assert frozen == [row for arm in ARMS for seed in (1, 2) for row in judged(arm, seed)]
    facts = json.loads((out / "confirm.json").read_text())
    assert facts["weights"]["gen-10-seed2"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert facts["sets"]["BrEaST"]["left_out_without_lesion"] == 1
    before = (out / "confirm.parquet").read_bytes()
    again = call(sets, study, out)
    assert again.exit_code == 10
    assert "scored once" in " ".join(again.output.split())
    (out / "confirm.parquet").unlink()
    assert call(sets, study, out).exit_code == 10, "nor where somebody deleted the scores alone"
    (out / "confirm.parquet").write_bytes(before)
    other = call(sets, study, tmp_path / "another")
    assert other.exit_code == 10, "nor into another folder"
    said = "".join(other.output.split())
    assert f"into{out}" in said
    assert "judgewhatisthere" in said
    assert not (tmp_path / "another").exists()
    mark = json.loads((study / "CONFIRMED").read_text())
    assert mark["weights"] == facts["weights"]
    shutil.rmtree(out)
    assert call(sets, study, out).exit_code == 10, "nor where the folder was deleted"


def test_a_study_that_is_not_finished_is_refused_before_anything_is_scored(sets, study, tmp_path):
    half = tmp_path / "half"
    for path in study.rglob("*"):
        if path.is_file() and path.parent.name != "both-seed2":
            copy = half / path.relative_to(study)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    refused = call(sets, half, tmp_path / "out")
    assert refused.exit_code == 10
    assert "both, seed 2" in " ".join(refused.output.split())
    assert not (tmp_path / "out").exists()
    assert call(sets, tmp_path / "none", tmp_path / "out").exit_code == 10


def test_the_judge_writes_the_row_of_the_log(sets, study, tmp_path):
    fold = [record for record in read_busbra(sets[0]) if record.fold == 5]
    out = tmp_path / "out"
    confirm(study, {"made set": fold}, out)
    judged = CliRunner().invoke(validate, ["generator", str(out), "--out", str(out)])
    assert judged.exit_code == 0, judged.output
    figures = json.loads((out / "figures.json").read_text())["confirmation"]["sets"]["made set"]
    rows = pq.read_table(out / "confirm.parquet").to_pylist()
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row["arm"] == "both":
            scores.setdefault(row["patient_id"], []).append(row["logit"])
    truth = {record.patient_id: record.malignant for record in fold}
    expected = empirical_auc([sum(v) / len(v) for v in scores.values()], [truth[p] for p in scores])
    assert figures["both"]["auc"]["auc"] == pytest.approx(expected)
    point = figures["both"]["at_frozen"]
    positive = sorted(0.1 * patient + 2.015 for patient in range(1, 40, 2))
    assert point["threshold"] == pytest.approx(np.quantile(positive, 0.05, method="lower")), (
        "of the study alone"
    )
    means = {patient: sum(own) / len(own) for patient, own in scores.items()}
    called = [means[patient] >= point["threshold"] for patient in means if truth[patient]]
    assert (point["sensitivity"]["count"], point["sensitivity"]["total"]) == (sum(called), len(called))
    (line,) = (out / "heldout-log.md").read_text().splitlines()
    assert line.count("|") == 7, "a row of the table of docs/heldout-log.md"
    patients = len(truth)
    assert f"made set, {patients} patients ({sum(truth.values())} malignant)" in line
    assert f"both AUC {expected:.3f}" in line
    digest = json.loads((out / "confirm.json").read_text())["weights"]["real-seed1"]
    assert f"real-seed1 {digest[:12]}" in line
