"""Every reason that a report can name has its line in the documentation."""

from __future__ import annotations

from pathlib import Path

from operators.study import Reason

PAGE = Path(__file__).parents[2] / "docs" / "set-aside.md"


def test_every_reason_is_explained():
    page = PAGE.read_text()
    assert [reason.value for reason in Reason if f"`{reason.value}`" not in page] == []
