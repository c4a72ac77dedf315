"""The conformance statement says what the code offers."""

from __future__ import annotations

from pathlib import Path

from app.conformance import SENT, conformance_page
from app.node.receive import STORAGE_CLASSES, TRANSFER_SYNTAXES

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_statement_is_what_the_program_says():
    assert PAGE.read_text() == conformance_page()


def test_every_class_and_syntax_has_its_line():
    page = PAGE.read_text()
    assert all(f"| {uid} |" in page for uid in (*STORAGE_CLASSES, *TRANSFER_SYNTAXES, *SENT))


def test_what_is_sent_comes_back_without_starting_anything():
    """A destination that forwards results to busmap must find each class accepted."""
    assert set(SENT) <= set(STORAGE_CLASSES)
