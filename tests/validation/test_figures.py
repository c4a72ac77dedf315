"""Figures of made predictions against counts by hand, and the report that shows them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from models.data.busbra import read_busbra
from models.runtime.loaded import load_models
from tests.models.made_sets import make_busbra
from tests.validation.made_predictions import made_rows, write_parquet
from validation.cli import app
from validation.figures import Thresholds, figures, judge, patients_of
from validation.predictions import read_predictions
from validation.report import RESEARCH_USE, Run, write_report

THRESHOLDS = Thresholds(sensitive=-1.0, specific=1.0)
RESAMPLES = 200


def judged(rows):
    return judge("made", rows, THRESHOLDS, resamples=RESAMPLES)


def test_a_patient_has_the_mean_of_the_images_in_which_a_lesion_was_found():
    row = replace(made_rows()[0], found=True, abstained=False, lesions=1, malignant=True)
    views = [
        replace(row, image_id="a", logit=1.0, probability=0.7),
        replace(row, image_id="b", logit=3.0, probability=0.9),
        replace(row, image_id="c", logit=9.0, probability=0.0, found=False, abstained=True),
    ]
    (patient,) = patients_of(views)
    assert (patient.score, patient.found) == (2.0, True)
    assert patient.probability == pytest.approx(0.8)
    (missed,) = patients_of(views[2:])
    assert (missed.score, missed.probability, missed.found) == (-np.inf, 0.0, False)


def test_everything_counts_and_the_found_images_stand_beside():
    rows = made_rows()
    judgement = judged(rows)
    whole, found = judgement.everything, judgement.found_only
    patients = patients_of(rows)
    assert (whole.patients, whole.malignant, whole.images) == (120, 40, len(rows))
    scores = [max(patient.score, -1e9) for patient in patients]
    labels = [patient.malignant for patient in patients]
    assert whole.auc.auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert whole.auc_bootstrap.low < whole.auc.auc < whole.auc_bootstrap.high
    assert whole.dice.value == pytest.approx(np.mean([row.dice for row in rows]))
    assert whole.found.value == pytest.approx(np.mean([row.found for row in rows]))
    assert whole.abstained.value == pytest.approx(np.mean([row.abstained for row in rows]))
    assert found.images == sum(row.found for row in rows)
    assert (found.found.value, found.abstained.value) == (1, 0)
    assert found.dice.value > whole.dice.value
    assert whole.nothing_marked is None
    called = sum(patient.malignant and patient.score >= 1.0 for patient in patients)
    assert whole.at_specific.sensitivity.count == called
    assert whole.at_specific.sensitivity.total == 40
    assert whole.at_sensitive.sensitivity.value >= whole.at_specific.sensitivity.value
    assert sum(item.count for item in whole.reliability) == sum(patient.found for patient in patients)


def test_devices_are_judged_apart_and_few_patients_are_marked():
    devices = judged(made_rows()).devices
    assert sorted(devices) == ["Aplio", "Logiq"]
    assert devices["Aplio"].images + devices["Logiq"].images == len(made_rows())
    assert devices["Aplio"].notes == (
        "n too small: 8 malignant patients",
        "n too small: 16 not malignant patients",
    )
    assert devices["Logiq"].notes == ()


def test_a_missed_lesion_costs_and_cannot_be_hidden():
    rows = made_rows()
    worse = [
        replace(row, found=False, lesions=0, logit=None, probability=0.0, dice=0.0)
        if row.malignant and index % 2
        else row
        for index, row in enumerate(rows)
    ]
    assert judged(worse).everything.auc.auc < judged(rows).everything.auc.auc
    assert judged(worse).everything.dice.value < judged(rows).everything.dice.value


def test_images_without_a_lesion_have_a_figure_of_their_own():
    rows = [
        replace(row, has_lesion=False) if not row.malignant and row.patient_id < "patient-0050" else row
        for row in made_rows()
    ]
    clear = [row for row in rows if not row.has_lesion]
    whole = judged(rows).everything
    assert whole.nothing_marked.images == len(clear)
    assert whole.nothing_marked.value == pytest.approx(1 - np.mean([row.found for row in clear]))
    assert whole.dice.images == len(rows) - len(clear)


def test_one_class_gives_what_can_be_given():
    rows = [row for row in made_rows() if not row.malignant]
    alone = figures(rows, THRESHOLDS, resamples=RESAMPLES)
    assert (alone.auc, alone.auc_bootstrap, alone.at_sensitive, alone.calibration) == (None, None, None, None)
    assert alone.dice is not None
    assert any(note.startswith("no ROC curve") for note in alone.notes)


def test_the_seed_gives_the_intervals():
    rows = made_rows()
    assert judged(rows) == judged(rows)
    other = judge("made", rows, THRESHOLDS, resamples=RESAMPLES, seed=2)
    assert other.everything.dice.interval != judged(rows).everything.dice.interval
    assert other.everything.auc == judged(rows).everything.auc


class Page(HTMLParser):
    """Collects what a reader or a browser would find."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.figures += data
        else:
            self.texts.append(data)


def read_page(path):
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def test_the_report_stands_alone_and_holds_the_figures(tmp_path):
    rows = [replace(row, device="<b>&</script>") for row in made_rows()]
    judgement = judge("</script><i>", rows, THRESHOLDS, resamples=RESAMPLES)
    html, figures_file = write_report(Run([(judgement, rows)], THRESHOLDS, RESAMPLES, 1), tmp_path / "out")
    page = read_page(html)
    text = " ".join(page.texts)
    assert RESEARCH_USE in text
    assert f"{judgement.everything.auc.auc:.3f}" in text
    assert "<b>&</script>" in text
    assert [tag for tag, _ in page.tags].count("svg") == 3
    assert not [tag for tag, _ in page.tags if tag in ("i", "b", "link", "img", "iframe")]
    assert not [
        value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")
    ]
    content = json.loads(page.figures)
    assert content == json.loads(figures_file.read_text())
    assert content["notice"] == RESEARCH_USE
    assert content["files"][0]["everything"]["auc"]["auc"] == judgement.everything.auc.auc
    assert sorted(path.name for path in html.parent.iterdir()) == ["figures.json", "report.html"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_the_verb_prints_the_table_and_writes_the_report(tmp_path):
    files = [write_parquet(made_rows(seed), tmp_path / f"set{seed}.parquet") for seed in (0, 1)]
    options = ("--threshold-sensitive", -1, "--threshold-specific", 1, "--resamples", RESAMPLES)
    result = run("predictions", *files, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "set0" in result.output
    assert "set1" in result.output
    assert f"{judged(made_rows()).everything.auc.auc:.3f}" in result.output
    assert RESEARCH_USE in result.output
    content = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert [item["name"] for item in content["files"]] == ["set0", "set1"]
    assert content["thresholds"] == {"sensitive": -1.0, "specific": 1.0}
    read_page(tmp_path / "out" / "report.html")


def test_the_verb_names_cause_and_remedy_without_a_traceback(tmp_path):
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and nothing else")
    result = run("predictions", broken)
    assert result.exit_code == 10
    assert "not a parquet file: write the file again" in result.output
    assert "Traceback" not in result.output
    whole = write_parquet(made_rows(), tmp_path / "rows.parquet")
    assert run("predictions", whole, "--threshold-sensitive", 1).exit_code == 2
    blocked = run("predictions", whole, "--out", broken / "out", "--resamples", 100)
    assert blocked.exit_code == 4
    assert "give another folder" in blocked.output
    assert run("predictions", whole, "--bundles", tmp_path / "none").exit_code == 5
    assert run("dataset", "breast", tmp_path, "--out", tmp_path / "out").exit_code == 10


def test_the_product_is_judged_from_a_published_layout(tmp_path):
    data = make_busbra(tmp_path / "data", patients=30)
    result = run("dataset", "busbra", data, "--out", tmp_path / "out", "--resamples", RESAMPLES)
    assert result.exit_code == 0, result.output
    rows = read_predictions(tmp_path / "out" / "busbra.parquet")
    confirming = [record for record in read_busbra(data) if record.fold == 5]
    assert [row.image_id for row in rows] == [record.image_id for record in confirming]
    content = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert content["files"][0]["everything"]["patients"] == 6
    points = load_models().judgement.points
    assert content["thresholds"] == {
        "sensitive": points.sensitive_logit,
        "specific": points.specific_logit,
    }
    again = judge("busbra", rows, Thresholds(**content["thresholds"]), resamples=RESAMPLES)
    assert content["files"][0] == json.loads(json.dumps(asdict(again)))
