"""Side and clock position out of words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.site import Site
from operators.site_text import read_site
from tests.operators.rendered_labels import render_label

SIDES = {
    "L": [
        "LT",
        "Left breast",
        "L BREAST",
        "MAMA ESQ",
        "mama esquerda",
        "MAMA E",
        "ESQ",
        "LI BRUST",
        "Mamma li",
        "LINKS",
    ],
    "R": [
        "RT",
        "Right breast",
        "R BREAST",
        "MAMA DIR",
        "mama direita",
        "MAMA D",
        "DIR",
        "RE BRUST",
        "Mamma re",
        "RECHTS",
    ],
}
HOURS = ["{}:00", "{}H", "{} h", "{}HS", "{} UHR", "{} Uhr", "{} O'CLOCK", "{} o’clock", "{}OCLOCK"]
CLUTTER = [
    "MI 0.9",
    "D 12.4MM",
    "FR 31 HZ",
    "10:42:31",
    "25/11/2026",
    "L12-5",
    "R 10 mm",
    "E 8",
    "14:00",
    "5 MHZ",
    "",
]
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize(
    ("lines", "side", "hour"),
    [
        (["LT BREAST 2:00 RAD 4CMFN"], "L", 2),
        (["MAMA ESQ QSE"], "L", None),
        (["RE 10 UHR"], "R", 10),
        (["LI BRUST"], "L", None),
        (["DIR"], None, None),
        (["DIR", "PRF 1.0 KHZ"], None, None),
        (["ESQ", "FR 31 HZ", "DIR"], "L", None),
        (["DIR", "10 H"], "R", 10),
        (["DIR QSE"], "R", None),
        (["MAMA", "DIR"], "R", None),
        (["GAIN 3 H LT"], "L", None),
        (["GN 3 H LT"], "L", None),
        (["LT BREAST", "TIME 10:00"], "L", None),
        (["LT BREAST 3 H"], "L", 3),
        (["MAMA DIR AS 3 HS"], "R", 3),
        (["1H", "MAMA DIR"], "R", 1),
        (["R 12:00"], "R", 12),
        (["QII"], None, None),
        (["MAMA D E AXILA"], None, None),
        (["MAMA E AXILA"], None, None),
        (["MAMA D AXILA D"], None, None),
        (["D 12.4MM", "E 3.1MM"], None, None),
        (["RE", "LI"], None, None),
        (["LT 2:00", "RT 3:00"], None, None),
        (["LT 10:30"], "L", None),
        (["LT 10H30"], "L", None),
        (["LT BREAST 10:00:00"], "L", None),
        (["LT BREAST 10:00 AM"], "L", None),
        (["LT BREAST 13:00"], "L", None),
        (["LT BREAST 2:00", "25/11/2026 10:00"], "L", 2),
        (["10:00"], None, None),
        (["LT", "FR 10HZ"], "L", None),
        (["LT 0:00"], "L", None),
    ],
)
def test_what_words_say(lines, side, hour):
    assert read_site(lines) == Site(side, hour)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from("LR"), st.integers(1, 12), st.data())
def test_every_spelling_with_clutter_around_is_read(side, hour, data):
    words = data.draw(st.sampled_from(SIDES[side]))
    time = data.draw(st.sampled_from(HOURS)).format(hour)
    clutter = data.draw(st.lists(st.sampled_from(CLUTTER), max_size=3))
    lines = [f"{words} {time}"] if data.draw(st.booleans()) else [words, time]
    assert read_site([*clutter, *lines]) == Site(side, hour)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from("LR"), st.data())
def test_both_sides_are_no_side_and_two_hours_no_hour(side, data):
    other = "R" if side == "L" else "L"
    hours = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=2, unique=True))
    lines = [
        f"{data.draw(st.sampled_from(SIDES[one]))} {data.draw(st.sampled_from(HOURS)).format(hour)}"
        for one, hour in zip((side, other), hours, strict=True)
    ]
    assert read_site(lines) == Site(None, None)


@settings(max_examples=500, deadline=None)
@given(st.lists(WORDS, max_size=5))
def test_any_text_gives_a_side_and_an_hour_or_none(lines):
    site = read_site(lines)
    assert site.laterality in (None, "L", "R")
    assert site.clock_hour in (None, *range(1, 13))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*CLUTTER, *HOURS]), max_size=6))
def test_clutter_alone_says_nothing(lines):
    assert read_site(lines) == Site(None, None)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*CLUTTER, *SIDES["L"], *SIDES["R"], "2:00", "3H"]), max_size=5))
def test_neither_case_nor_space_matters(lines):
    spaced = [f"  {line.lower().replace(' ', '   ')} " for line in lines]
    assert read_site(spaced) == read_site(lines)


def test_every_rendered_label_says_what_it_was_rendered_from():
    random = np.random.default_rng(3)
    for _ in range(30):
        label = render_label(random)
        assert read_site(label.lines) == label.site
