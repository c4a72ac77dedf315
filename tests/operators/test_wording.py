"""No text of a result advises: what is done next is for the person who reads it."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators.compose_report import compose_report
from operators.report.capture import lay_out_summary
from operators.report.wording import INTERVAL, covered_lines, headline
from operators.study import Reason, SetAside

ROOT = Path(__file__).parents[2]
ADVICE = re.compile(
    r"follow[- ]?up|\bbiops(y|ies)\b|recommend|\badvi[cs]e|\bsuggest|surveillance|short[- ]interval|"
    r"routine (screening|mammogra)|\brefer (her|the patient)\b|\breferral|patient management|\bconsider\b",
    re.IGNORECASE,
)


def texts(source: Path) -> Iterator[str]:
    """Every text in a module that is no docstring, or all of a template."""
    content = source.read_text(encoding="utf-8")
    if source.suffix != ".py":
        yield content
        return
    tree = ast.parse(content)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_the_search_finds_advice() -> None:
    for said in (
        "Follow-up in six months",
        "biopsy advised",
        "We recommend a second look",
        "routine screening",
    ):
        assert ADVICE.search(said)


def test_no_text_in_the_source_advises() -> None:
    sources = [*(ROOT / "operators").rglob("*.py"), *(ROOT / "operators").rglob("*.j2")]
    assert len(sources) > 20
    found = [(source.name, text) for source in sources for text in texts(source) if ADVICE.search(text)]
    assert not found


@pytest.mark.parametrize("name", ["malignant, two views", "calibrated", "not breast ultrasound"])
def test_no_result_advises_and_each_says_where_it_was_learned(analysed, context, name: str) -> None:
    result = analysed(name)
    report = compose_report(result, context)
    said = [
        report.objects[0].dataset.to_json(),
        re.sub(r"base64,[^\"]*", "", report.page),
        str(report.summary),
    ]
    assert not [match for text in said for match in ADVICE.finditer(text)]
    if result.lesions:
        assert "learned from biopsied lesions, a third of them malignant" in said[0]
        assert "33%" in report.page
        assert report.summary["malignant_prevalence"] == 0.33


ASIDE = {
    "Of 112 frames 50, evenly spread, were looked at; the limits are the settings "
    "analysis.maximum_frames_per_instance and analysis.maximum_frames_per_study.": "spread, were looked at.",
    "The study has more images than the setting analysis.maximum_frames_per_study allows.": (
        "more images than the setting allows."
    ),
    "A secondary capture without calibration; the setting analysis.accept_secondary_capture allows it.": (
        "without calibration."
    ),
}


def test_no_picture_names_a_setting_and_status_does(analysed, context) -> None:
    aside = tuple(SetAside(Reason.FRAME_LIMIT, detail, "1.2", None, "x") for detail in ASIDE)
    result = dataclasses.replace(analysed("calibrated"), set_aside=aside)
    shown = " ".join(box.words for box in lay_out_summary(result, context).boxes)
    assert "analysis." not in shown
    assert "maximum" not in shown
    for kept in ASIDE.values():
        assert kept in shown
    assert "analysis.maximum_frames_per_study" in str(compose_report(result, context).summary["remarks"])


def test_what_was_looked_at_is_no_part_of_what_was_found(analysed) -> None:
    assert headline(analysed("benign, two views")).startswith(
        "1 lesion found; 2 frames of 2 images looked at."
    )


def test_an_interval_is_explained_wherever_it_stands(analysed, context) -> None:
    result = analysed("calibrated")
    report = compose_report(result, context)
    assert INTERVAL in " ".join(box.words for box in lay_out_summary(result, context).boxes)
    assert INTERVAL in report.page
    assert INTERVAL in report.objects[0].dataset.to_json()


def test_what_is_covered_is_said_without_claiming_that_all_was_found(analysed) -> None:
    (line,) = covered_lines([analysed("calibrated").lesions[0].key_view])
    assert "that were found" in line
    assert "removed" not in line
