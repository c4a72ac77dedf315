"""Pictures of the pages are what they are said to be."""

from __future__ import annotations

import html
import re

from tests.docs.pages import DOCS, ROOT


def test_the_picture_shows_what_its_text_says():
    source = (DOCS / "data-way.dot").read_text()
    said = {
        line
        for label in re.findall(r'label="([^"]+)"', source)
        for line in label.replace("\\n", "\n").split("\n")
    }
    drawn = re.findall(r"<text[^>]*>([^<]+)</text>", (DOCS / "data-way.svg").read_text())
    assert said == {html.unescape(text).replace("\u00a0", " ") for text in drawn}, "make docs draws it anew"


def test_the_generators_grid_is_that_of_its_run():
    """Pages link to nothing outside their folder, so the grid stands there as a copy."""
    run = ROOT / "models" / "generation" / "runs" / "base"
    assert (DOCS / "generator-drawn.png").read_bytes() == (run / "grid.png").read_bytes()
