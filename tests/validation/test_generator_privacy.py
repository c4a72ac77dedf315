"""Privacy judged from made measures: known rates, and what a generator that copies must raise."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from models.generation.study.twins import twin_rows
from validation.cli import app
from validation.generator.duplicates import _Pairs, _share_of_made, _share_of_real, duplicates_of
from validation.generator.files import Columns
from validation.generator.privacy import privacy_figures
from validation.predictions import PredictionError
from validation.statistics.proportions import wilson

FACTS = {"rejected": 3, "epochs": 12}


def neighbours(random, made=400, real=300, copies=0) -> Columns:
    count = made + real
    kind = np.array(["generated"] * made + ["other"] * real)
    even = np.concatenate([np.linspace(0.5, 1, made), np.linspace(0.5, 1, real)])
    pixel, feature = even.copy(), even - 0.2
    pixel[made - copies : made] = feature[made - copies : made] = 0.01
    patients = {key: random.integers(0, 50, count).astype(str) for key in ("pixel", "feature", "mask")}
    return {
        "kind": kind,
        "id": np.array([*map(str, range(made)), *(f"other{i // 2}-{i % 2}" for i in range(real))]),
        "pixel_distance": pixel,
        "feature_distance": feature,
        **{f"{key}_patient": value for key, value in patients.items()},
    }


def pairs(points, copies=0):
    """All distances of points (n, d); the last `copies` are moved to where the one before them is."""
    moved = points.copy()
    for i in range(1, copies + 1):
        moved[-2 * i] = moved[-2 * i + 1] + 1e-4
    return np.sqrt(np.square(moved[:, None] - moved[None]).sum(-1)).astype(np.float32)


PATIENTS = {f"i{i}": f"p{i // 2}" for i in range(200)}  # two pictures each, as `losses` has them


def twins(random, twice=0, made=400, narrow=1.0) -> Columns:
    """The nearest pairs of made points: two pictures of a patient lie 0.14 apart."""
    real = np.repeat(random.standard_normal((100, 4)), 2, 0) + 0.05 * random.standard_normal((200, 4))
    drawn = pairs(narrow * random.standard_normal((made, 4)), twice)
    names = {"generated": [str(i) for i in range(made)], "real": list(PATIENTS)}
    ways = ("pixel", "feature")
    people = list(PATIENTS.values())
    rows = twin_rows(dict.fromkeys(ways, drawn), {way: pairs(real) for way in ways}, names, people)
    table = pa.Table.from_pylist(rows)
    return {name: table[name].to_numpy() for name in table.column_names}


def losses(random, known=0.0, patients=(80, 20, 150)) -> Columns:
    parts = {"part": [], "image_id": [], "patient_id": [], "loss": []}
    for part, count in zip(("member", "aside", "other"), patients, strict=True):
        for patient in range(count):
            for picture in range(2):
                parts["part"].append(part)
                learned = 2 * (patient + 80 * (part == "aside")) + picture
                parts["image_id"].append(f"other{patient}-{picture}" if part == "other" else f"i{learned}")
                parts["patient_id"].append(f"{part}{patient}")
                parts["loss"].append(random.normal(1 - known * (part == "member"), 0.2))
    return {key: np.array(values) for key, values in parts.items()}


def judged(seed=0, copies=0, twice=0, known=0.0):
    random = np.random.default_rng(seed)
    return privacy_figures(
        neighbours(random, copies=copies),
        twins(random, twice),
        losses(random, known),
        FACTS,
        resamples=200,
        seed=1,
    )


def test_a_generator_that_gives_nothing_away_passes():
    figures = judged()
    for way in ("pixel", "feature"):
        copies = figures.copies[way]
        assert copies.passed
        assert copies.count.value == pytest.approx(0.01, abs=0.0026), "as real pictures themselves"
        assert copies.with_threshold.low < copies.count.interval.low < 0.01
        assert copies.with_threshold.high > copies.count.interval.high, "300 real ones say no more than that"
        assert figures.duplicates[way].passed
        assert figures.retrieval[way]["generated"].chance == pytest.approx(1 / 50, abs=0.01)
        assert figures.retrieval[way]["generated"].p > 0.001
    assert {row.size for row in figures.duplicates.values()} == {50}, "half of the patients, one picture each"
    assert figures.membership.auc.positives == figures.membership.auc.negatives == 80, "as many of both"
    assert figures.aside.auc.positives == 20
    assert (figures.rejected, figures.generated, figures.real) == (3, 400, 300)


def test_keeping_further_away_costs_draws_and_leaves_fewer_copies():
    figures = judged(copies=40)
    assert [one.quantile for one in figures.rejections] == [0.01, 0.02, 0.05, 0.1]
    thrown = [one.thrown_away.count for one in figures.rejections]
    assert thrown == sorted(thrown)
    assert thrown[0] >= 40, "all planted ones are nearer than any real picture"
    for one in figures.rejections:
        assert one.copies["pixel"].count == 0
        assert one.copies["pixel"].total == figures.generated - one.thrown_away.count
        assert one.copies["feature"].count < figures.copies["feature"].count.count
    assert judged(copies=400).rejections == [], "nothing would be left"


def test_copies_and_twins_are_counted():
    for many in (1, 40):
        before, after = judged(), judged(copies=many, twice=4 * many)
        for way in ("pixel", "feature"):
            assert after.copies[way].count.count >= many
            assert after.copies[way].count.count > before.copies[way].count.count
            assert after.duplicates[way].share.value > before.duplicates[way].share.value
    assert not after.copies["pixel"].passed
    assert not after.duplicates["feature"].passed
    assert after.copies["pixel"].threshold == before.copies["pixel"].threshold, "set by real pictures alone"


def duplicates(seed, made=400, **options):
    rows = twins(np.random.default_rng(seed), made=made, **options)
    return duplicates_of(rows, "pixel", made, PATIENTS, 1)


@pytest.mark.parametrize("made", [100, 600])
def test_a_larger_set_has_no_more_duplicates(made):
    """Of one population, whatever the numbers: the excess over real ones holds 0 as often as it says."""
    excess = [duplicates(seed, made).excess for seed in range(20)]
    missed = sum(not one.interval.low <= 0 <= one.interval.high for one in excess)
    assert missed <= 5, "5% of 20 are 1; more than 5 has a chance below 1 in 3,000"
    assert abs(np.mean([one.value for one in excess])) < 0.006
    assert not duplicates(1, made, narrow=0.3).passed, "a narrow set lies closer together than real pictures"


def test_pictures_of_one_patient_are_no_duplicates():
    rows = twins(np.random.default_rng(0))
    of_real = rows["kind"] == "real"
    one, other = ([PATIENTS[name] for name in rows[key][of_real]] for key in ("first", "second"))
    assert one
    assert not any(first == second for first, second in zip(one, other, strict=True))


@given(st.integers(0, 2**31), st.integers(4, 12), st.integers(6, 30))
@settings(max_examples=8, deadline=None)
def test_shares_are_those_of_random_sets(seed, people, made):
    """Against drawing 2,000 sets (Monte Carlo)."""
    random = np.random.default_rng(seed)
    owner = random.integers(0, people, 3 * people)
    owner[:people] = np.arange(people)
    real, drawn = (pairs(random.standard_normal((count, 2))) for count in (len(owner), made))
    limit, size = 0.4, min(people, made)
    everyone = [np.ones(len(own), bool) for own in (real, drawn)]
    places = [np.argwhere(np.triu(own < 9, 1)) for own in (real, drawn)]
    lists = [
        _Pairs(at[:, 0], at[:, 1], own[tuple(at.T)].astype(float))
        for at, own in zip(places, (real, drawn), strict=True)
    ]
    apart = owner[lists[0].one] != owner[lists[0].other]
    lists[0] = _Pairs(lists[0].one[apart], lists[0].other[apart], lists[0].distance[apart])
    seen = []
    for _ in range(2000):
        shuffled = random.permutation(len(owner))
        _, first = np.unique(owner[shuffled], return_index=True)
        sets = (real, shuffled[first]), (drawn, random.choice(made, size, replace=False))
        shares = []
        for distance, chosen in sets:
            within = distance[np.ix_(chosen, chosen)] + 9 * np.eye(len(chosen))
            shares.append((within.min(1) <= limit).mean())
        seen.append(shares)
    expected = (
        _share_of_real(lists[0], limit, everyone[0], owner, people),
        _share_of_made(lists[1], limit, everyone[1], size),
    )
    assert np.mean(seen, axis=0) == pytest.approx(expected, abs=0.03)


def test_pairs_that_do_not_fit_are_refused():
    rows = twins(np.random.default_rng(0))
    with pytest.raises(PredictionError, match="not known"):
        duplicates_of(rows, "pixel", 3, PATIENTS, 1)
    with pytest.raises(PredictionError, match="too few for"):
        duplicates_of({**rows, "kind": np.full(len(rows["kind"]), "none")}, "pixel", 3, PATIENTS, 1)
    with pytest.raises(PredictionError, match="too few real pairs"):
        duplicates_of({**rows, "kind": np.full(len(rows["kind"]), "none")}, "pixel", 400, PATIENTS, 1)


def test_known_pictures_are_members():
    figures = judged(known=0.5)
    assert not figures.membership.passed
    assert figures.membership.auc.auc > 0.95
    assert not figures.aside.passed
    backwards = judged(known=-0.5)
    assert backwards.membership.auc.auc < 0.05
    assert backwards.membership.passed


def test_an_equal_loss_is_told_in_five_percent_of_studies():
    """The interval of membership holds 0.5 as often as it says (Monte Carlo over made losses)."""
    outside = 0
    for seed in range(300):
        auc = judged_membership(seed)
        outside += not auc.logit.low <= 0.5 <= auc.logit.high
    assert outside <= 30, "5% of 300 are 15; more than 30 has a chance below 1 in 5,000"


def judged_membership(seed):
    from validation.generator.privacy import _membership

    return _membership(losses(np.random.default_rng(seed), patients=(60, 2, 60)), "other", seed).auc


def test_a_patient_found_again_is_no_chance():
    random = np.random.default_rng(5)
    near = neighbours(random)
    near["pixel_patient"][:200] = near["mask_patient"][:200]
    figures = privacy_figures(near, twins(random), losses(random), FACTS, resamples=100)
    found = figures.retrieval["pixel"]["generated"]
    assert found.share.value > 0.5
    assert found.p < 0.01
    assert figures.retrieval["pixel"]["real"].p > 0.001
    near["pixel_patient"][400::2] = near["pixel_patient"][401::2] = near["mask_patient"][400::2]
    near["mask_patient"][401::2] = near["mask_patient"][400::2]
    near["mask_patient"][400:500] = "nobody"
    both = privacy_figures(near, twins(random), losses(random), FACTS, resamples=400).retrieval["pixel"]
    share = both["real"].share
    wide = wilson(share.count, share.total).interval
    assert share.interval.high - share.interval.low > 1.2 * (wide.high - wide.low), "pictures come in pairs"


def write(folder, random, near=None):
    files = {"neighbours": near or neighbours(random), "twins": twins(random), "membership": losses(random)}
    for name, rows in files.items():
        pq.write_table(pa.table(rows), folder / f"{name}.parquet")
    (folder / "privacy.json").write_text(json.dumps(FACTS))


def test_the_report_shows_it(tmp_path):
    write(tmp_path, np.random.default_rng(0), neighbours(np.random.default_rng(0), copies=30))
    result = CliRunner().invoke(app, ["generator", str(tmp_path), "--out", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())["privacy"]
    html = (tmp_path / "report" / "report.html").read_text()
    copies = figures["copies"]["pixel"]["count"]
    assert f"{copies['count']} of {copies['total']}" in html
    assert html.count("<svg") == 3
    assert "missed" in html


def test_half_a_measure_is_refused(tmp_path):
    random = np.random.default_rng(0)
    near = neighbours(random)
    only = {key: value[near["kind"] == "generated"] for key, value in near.items()}
    with pytest.raises(PredictionError, match="lack generated or real"):
        privacy_figures(only, twins(random), losses(random), FACTS, resamples=100)
    write(tmp_path, random)
    (tmp_path / "membership.parquet").unlink()
    result = CliRunner().invoke(app, ["generator", str(tmp_path)])
    assert result.exit_code == 10
    assert "busmap generator privacy" in " ".join(result.output.split())
