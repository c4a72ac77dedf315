"""The generator's studies judged: the pre-stated tests in their order, and what files are refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from validation.cli import app
from validation.generator.files import read_scores
from validation.generator.usefulness import judge_study
from validation.generator.usefulness_tables import usefulness_section
from validation.predictions import PredictionError
from validation.statistics.interval import StatisticsError
from validation.statistics.roc import empirical_auc, non_inferiority

ARMS = ("real", "gen-1", "gen-3", "gen-10", "both")
SIZES = {"gen-1": 100, "gen-3": 300, "gen-10": 1000}
SEEDS = (1, 2)


def study_rows(shifts, column="logit", patients=150, seed=0, seeds=(1, 2), noise=0.3):
    """Two images a patient, a third malignant; `shifts`: what the malignant ones score above, by arm."""
    random = np.random.default_rng(seed)
    own = random.standard_normal((patients, 2))
    rows = []
    for arm, shift in shifts.items():
        for number in seeds:
            extra = noise * random.standard_normal((patients, 2))
            for patient in range(patients):
                for view in range(2):
                    malignant = patient % 3 == 0
                    value = own[patient, view] + extra[patient, view] + shift * malignant
                    rows.append(
                        {
                            "arm": arm,
                            "seed": number,
                            "image_id": f"{patient}-{view}",
                            "patient_id": f"p{patient}",
                            "device": "usual" if patient % 10 else "rare",
                            "malignant": malignant,
                            column: float(value) if column != "dice" else float(1 / (1 + np.exp(-value))),
                        }
                    )
    return rows


def columns(rows):
    table = pa.Table.from_pylist(rows)
    return {name: table[name].to_numpy() for name in table.column_names}


def judged(shifts, probes=None, dice=None):
    return judge_study(
        columns(study_rows(shifts)),
        None if probes is None else columns(study_rows(probes, "score", seed=1)),
        None if dice is None else columns(study_rows(dice, "dice", seed=2, seeds=(1,))),
        SIZES,
        SEEDS,
        resamples=200,
    )


def test_non_inferiority_of_published_markers(shared_data):
    import csv

    with (shared_data / "reader-study" / "datasets" / "asah.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    sick, s100b, ndka = (np.array([float(r[k]) for r in rows]) for k in ("outcome", "s100b", "ndka"))
    # pROC: difference 0.1194106, z 1.3907700, so SE 0.0858594 and a lower bound of -0.0488706
    for margin, shown in ((0.0488, False), (0.0489, True)):
        test = non_inferiority(s100b, ndka, sick == 1, margin)
        assert test.shown is shown
        assert test.paired.interval.low == pytest.approx(-0.0488706, abs=1e-6)
        assert test.p == pytest.approx(stats.norm.sf((0.1194106 + margin) / 0.0858594), abs=1e-5)
        assert (test.p < 0.025) is shown
    with pytest.raises(StatisticsError, match="margin"):
        non_inferiority(s100b, ndka, sick == 1, 0)


def test_non_inferiority_errs_as_often_as_it_says():
    """At a true loss of the margin itself it is shown in 2.5% of studies."""
    random, margin, shown, studies = np.random.default_rng(3), 0.05, 0, 1500
    first = stats.norm.ppf(0.85) * np.sqrt(2)  # AUC 0.85, and 0.80 of the worse one
    second = stats.norm.ppf(0.80) * np.sqrt(2)
    truth = np.arange(240) % 3 == 0
    for _ in range(studies):
        noise = random.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], len(truth))
        shown += non_inferiority(
            noise[:, 1] + second * truth, noise[:, 0] + first * truth, truth, margin
        ).shown
    assert stats.binomtest(shown, studies, 0.025).pvalue > 1e-3


@given(st.integers(0, 2**31), st.floats(0.001, 0.3))
@settings(max_examples=50, deadline=None)
def test_shown_and_p_say_the_same(seed, margin):
    random = np.random.default_rng(seed)
    truth = np.arange(40) % 2 == 0
    one, two = random.standard_normal((2, 40)) + truth
    test = non_inferiority(one, two, truth, margin)
    assert test.shown == (test.p < 0.025)
    wider = non_inferiority(one, two, truth, margin + 0.1)
    assert wider.shown >= test.shown


def test_the_sequence_stops_where_a_test_fails():
    alike, probes = dict.fromkeys(ARMS, 1.0), {"real": 1.5, "gen-10": 0.0}
    good = judged({**alike, "both": 2.5}, probes)
    assert [(step.tested, step.shown) for step in good.sequence] == [(True, True)] * 3
    bad = judged({**alike, "gen-10": 0.2, "both": 2.5}, probes)
    assert not bad.primary.shown
    assert [(step.tested, step.shown) for step in bad.sequence] == [
        (True, False),
        (False, None),
        (False, None),
    ]
    assert bad.shortcut_nearer.interval.low > 0, "reported in any case"
    middle = judged({**alike, "both": 0.5}, probes)
    assert [step.tested for step in middle.sequence] == [True, True, False]


def test_an_arm_that_lacks_a_seed_is_left_out():
    rows = study_rows(dict.fromkeys(ARMS, 1.0))
    half = [row for row in rows if (row["arm"], row["seed"]) != ("gen-10", 2)]
    figures = judge_study(columns(half), None, None, SIZES, SEEDS, resamples=100)
    assert figures.unfinished == ("gen-10",)
    assert figures.primary is None, "one seed against two would lose by its noise alone"
    assert "gen-10" not in figures.arms
    assert figures.slope.sizes == (100, 300)
    assert any("gen-10" in note for note in usefulness_section(figures).notes)
    with pytest.raises(PredictionError, match="goes on"):
        judge_study(columns(rows), None, None, SIZES, (1, 2, 3), resamples=100)


def test_a_patient_is_scored_by_the_mean_over_images_and_seeds():
    rows = study_rows(dict.fromkeys(ARMS, 1.0), noise=1.0)
    figures = judge_study(columns(rows), None, None, SIZES, SEEDS, resamples=100)
    for arm in ARMS:
        own: dict[str, list[float]] = {}
        for row in rows:
            if row["arm"] == arm:
                own.setdefault(row["patient_id"], []).append(row["logit"])
        truth = [int(patient[1:]) % 3 == 0 for patient in own]
        expected = roc_auc_score(truth, [np.mean(values) for values in own.values()])
        assert figures.arms[arm].auc.auc == pytest.approx(expected, abs=1e-12)
    assert figures.arms["real"].against_real is None
    assert figures.devices["rare"] is None
    assert figures.malignant_by_device == {"rare": 5, "usual": 45}
    assert set(figures.devices["usual"]) == set(ARMS)


def test_the_slope_of_a_known_gain():
    rising = judged({"real": 2.0, "gen-1": 0.5, "gen-3": 1.0, "gen-10": 1.5})
    areas = np.array(rising.slope.areas)
    expected = np.polyfit(np.log10([100, 300, 1000]), areas, 1)[0]
    assert rising.slope.per_decade.value == pytest.approx(expected)
    assert rising.slope.per_decade.interval.low > 0
    assert rising.slope.stops_after is None
    falling = judged({"real": 2.0, "gen-1": 0.5, "gen-3": 1.5, "gen-10": 0.2})
    assert falling.slope.stops_after == 300


def test_missing_arms_are_no_figures():
    figures = judged({"gen-1": 1.0}, dice={"real": 0.5, "gen-3": 1.5})
    assert figures.primary is None
    assert figures.slope is None
    assert figures.sequence[0] == type(figures.sequence[0])(figures.sequence[0].name, True, None)
    assert not figures.sequence[1].tested
    assert figures.dice["gen-3"].against_real.interval.low > 0
    assert figures.dice["real"].against_real is None


def write_study(folder, rows):
    pq.write_table(pa.Table.from_pylist(rows), folder / "diagnosis.parquet")
    arms = {
        arm: {"real": arm in ("real", "both"), "times": {"gen-1": 1, "gen-3": 3, "gen-10": 10}.get(arm, 0)}
        for arm in ARMS
    }
    facts = {"arms": arms, "learned": {"images": 100}, "settings": {"seeds": SEEDS}}
    (folder / "study.json").write_text(json.dumps(facts))


def test_the_verb_writes_a_report_and_the_same_figures(tmp_path):
    rows = study_rows(dict.fromkeys(ARMS, 2.0))
    write_study(tmp_path, rows)
    pq.write_table(
        pa.Table.from_pylist(study_rows({"real": 1.0, "gen-10": 0.1}, "score")), tmp_path / "shortcut.parquet"
    )
    result = CliRunner().invoke(
        app, ["generator", str(tmp_path), "--resamples", "100", "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())["usefulness"]
    html = (tmp_path / "report.html").read_text()
    table = columns(rows)
    own = {
        p: table["logit"][(table["patient_id"] == p) & (table["arm"] == "real")].mean()
        for p in table["patient_id"]
    }
    assert figures["arms"]["real"]["auc"]["auc"] == pytest.approx(
        empirical_auc(list(own.values()), [int(p[1:]) % 3 == 0 for p in own])
    )
    assert f"{figures['primary']['paired']['difference']:.4f}" in html
    assert "Research use" in html
    assert "n too small" in html
    assert figures["slope"]["sizes"] == [100, 300, 1000]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "judged other images"),
        (lambda rows: [*rows, rows[0]], "stands twice"),
        (lambda rows: [{**rows[0], "malignant": not rows[0]["malignant"]}, *rows[1:]], "malignant differs"),
        (lambda rows: [{**rows[0], "logit": float("nan")}, *rows[1:]], "no number"),
        (
            lambda rows: [{k: v for k, v in row.items() if k != "logit"} for row in rows],
            "lacks the column logit",
        ),
    ],
)
def test_files_that_cannot_be_judged_are_refused(tmp_path, change, message):
    rows = study_rows({"real": 1.0, "gen-1": 1.0}, patients=6, seeds=(1,))
    write_study(tmp_path, change(rows))
    with pytest.raises(PredictionError, match=message):
        read_scores(tmp_path / "diagnosis.parquet", "logit")
    result = CliRunner().invoke(app, ["generator", str(tmp_path)])
    assert result.exit_code == 10
    assert "busmap validate: " in result.output


def test_an_empty_folder_is_no_study(tmp_path):
    result = CliRunner().invoke(app, ["generator", str(tmp_path)])
    assert result.exit_code == 10
    assert "busmap generator study" in result.output
