"""No text of a result advises: what is done next is for the person who reads it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from operators.compose_report import compose_report

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
