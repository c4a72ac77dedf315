"""The picture of the data's way is the one its text describes."""

from __future__ import annotations

import html
import re

from tests.docs.pages import DOCS


def test_the_picture_shows_what_its_text_says():
    source = (DOCS / "data-way.dot").read_text()
    said = {
        line
        for label in re.findall(r'label="([^"]+)"', source)
        for line in label.replace("\\n", "\n").split("\n")
    }
    drawn = re.findall(r"<text[^>]*>([^<]+)</text>", (DOCS / "data-way.svg").read_text())
    assert said == {html.unescape(text).replace("\u00a0", " ") for text in drawn}, "make docs draws it anew"
