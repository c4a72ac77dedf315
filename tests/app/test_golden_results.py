"""The whole program on the golden set: results are what they were when the weights were locked.

A change of decoding, preprocessing, runtime or report that moves a probability, a category, a size or an
outline is seen here, with no patient in sight.
"""

from __future__ import annotations

import json

import pytest

from tests.golden_results import EXPECTED, GOLDEN, analyse, differences, kept


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return kept(analyse(GOLDEN, tmp_path_factory.mktemp("golden") / "out"))


def test_results_of_the_golden_set_are_as_they_were(found):
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert len(expected) == 64
    assert differences(found, expected) == []


def test_a_moved_result_is_seen():
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    name, study = next((key, one) for key, one in expected.items() if one["lesions"])
    lesion = study["lesions"][0]
    view = lesion["views"][0]
    moved = {**view, "outline": [[x + 5, y] for x, y in view["outline"]]}
    for change, word in (
        ({"probability": lesion["probability"] + 0.002}, "probability"),
        ({"category": "5"}, "category"),
        ({"long_axis_mm": lesion["long_axis_mm"] + 0.5}, "long_axis_mm"),
        ({"views": [moved, *lesion["views"][1:]]}, "outline"),
    ):
        other = {**expected, name: {**study, "lesions": [{**lesion, **change}, *study["lesions"][1:]]}}
        (line,) = differences(other, expected)
        assert word in line
    assert len(differences({**expected, name: {**study, "lesions": []}}, expected)) == 1
