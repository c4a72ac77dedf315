"""Side and clock position out of words on a screen: English, Portuguese and German, as sonographers type.

Promises: says only what the words say beyond doubt; what names both sides or two hours, half hours, and
letters that mean other things elsewhere ("D 12 mm", "10:00:32") say nothing. No other word is kept.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from operators.site import Site

_SIDES = {
    "L": ("LEFT", "LT", "LFT", "ESQUERDA", "ESQUERDO", "ESQ", "LINKS", "LINKE", "LINKER"),
    "R": ("RIGHT", "RT", "RGT", "DIREITA", "DIREITO", "DIR", "RECHTS", "RECHTE", "RECHTER"),
}
_BREAST = ("BREAST", "BRST", "MAMA", "MAMMA", "BRUST")
# Too short to stand alone: they count beside the breast of their language, or right before an hour.
_SHORT = {
    **dict.fromkeys(("L BREAST", "L BRST", "L MAMMA", "MAMMA L", "L BRUST", "BRUST L"), "L"),
    **dict.fromkeys(("LI BRUST", "BRUST LI", "LI MAMMA", "MAMMA LI"), "L"),
    **dict.fromkeys(("R BREAST", "R BRST", "R MAMMA", "MAMMA R", "R BRUST", "BRUST R"), "R"),
    **dict.fromkeys(("RE BRUST", "BRUST RE", "RE MAMMA", "MAMMA RE"), "R"),
}
_BEFORE_HOUR = {"L": "L", "LI": "L", "R": "R", "RE": "R"}
# "MAMA E" is the left breast, "MAMA E AXILA" the breast and the axilla: they must end their group of words.
_LAST = {"MAMA E": "L", "MAMA D": "R", "MAMA ESO": "L"}  # a Q is often read as an O
# What tells that a line speaks of a place in the breast, beside side, hour and breast.
_PLACE = (
    *("QSE", "QSI", "QIE", "QII", "UOQ", "UIQ", "LOQ", "LIQ", "RAD", "ARAD", "RADIAL", "ANTIRADIAL", "TRANS"),
    *("LONG", "SAG", "CMFN", "FN", "AXILLA", "AXILA", "OAQ", "OIQ", "UAQ", "RETROAREOLAR", "PERIAREOLAR"),
)
_AFTER_LAST = ({*_PLACE} - {"AXILA", "AXILLA"}) | {"H", "HS", "HR", "HRS", "UHR", "O", "OCLOCK"}
_ACCENTS = str.maketrans("ÀÁÂÃÄÇÉÊÍÓÔÕÖÚÜ’‘`´", "AAAAACEEIOOOOUU''''")
# "LI" before a breast is often read as one word with it, its I as another stroke.
_GLUED = re.compile(r"\b(L[I1!|]|RE) ?(?=BRUST|MAMMA)")
_RUN_ON = re.compile(r"\b(MAMMA|MAMA|BRUST|BREAST)(?=[A-Z])")
_WORD = re.compile(r"[A-Z]+")
_START = r"(?<![\w:.,/-])(?<![\d:.,/-] )"  # no digit, time or date before, be it after a blank
# 2:00, 10 H, 11HS, 12 UHR, 3 O'CLOCK; not 10:00:32, 14:00, 1.10H, 10 HZ, 10:00 AM.
_HOUR = re.compile(
    rf"{_START}(1[0-2]|[1-9])"
    r"(?P<kind>:00(?![\w:/-]|[.,]\d)(?! ?[AP]\.?M)|\s?H(?:S|RS)?\b(?! ?[\d.:/-])|\s?[UV]HR\b"
    r"|\.?\s?[O0] ?'? ?CLOCK\b)"
)
# Hours that a word before them can make a setting or a time, and the words that do not.
_UNSURE = (":00", "H", "HS", "HR", "HRS")
_BEFORE = re.compile(r"([A-Z]+)[^A-Z0-9]*$")
_SETTINGS = ("GN", "DR", "FR", "MI", "TI", "PW", "DG", "AO", "ZM")
_KNOWN = {*_BREAST, *_PLACE, *itertools.chain(*_SIDES.values())}
_WEAK = {"DIR": "R"}  # a direction of flow, too
_HALF = re.compile(rf"{_START}(?:1[0-2]|[1-9])(?::(?!00)[0-5]\d(?![\w:.,/-])|\s?H\s?[1-5]\d\b)")


def read_site(lines: Sequence[str]) -> Site:
    """What lines of text say of side and clock position.

    Parameters
    ----------
    lines : Sequence of str
        Text as read, each in one line; neighbours in the sequence are neighbours on the screen.
    """
    cleaned = [_clean(line) for line in lines]
    of_place = [_speaks_of_place(line) for line in cleaned]
    sides: set[str] = set().union(
        *(
            _sides(line) - (set() if _placed(cleaned[max(0, at - 1) : at + 2]) else _weak(line))
            for at, line in enumerate(cleaned)
        )
    )
    hours: set[int] = set().union(
        *(_hours(line, any(of_place[max(0, at - 1) : at + 2])) for at, line in enumerate(cleaned))
    )
    side, hour = _only(sides), _only(hours)
    return Site(side, hour if hour else None)


def _only(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else None


def _clean(line: str) -> str:
    words = " ".join(line.upper().translate(_ACCENTS).split())
    words = _RUN_ON.sub(r"\1 ", words)
    return _GLUED.sub(lambda found: "LI " if found[1].startswith("L") else "RE ", words)


def _sides(line: str) -> set[str]:
    words = _WORD.findall(line)
    pairs = [f"{one} {other}" for one, other in itertools.pairwise(words)]
    found = {side for side, names in _SIDES.items() if any(word in names for word in words)}
    found |= {_SHORT[pair] for pair in pairs if pair in _SHORT}
    if pairs and pairs[-1] in _LAST:
        found.add(_LAST[pairs[-1]])
    for at, pair in enumerate(pairs[:-1]):
        if pair in _LAST and (words[at + 2] in _AFTER_LAST or words[at + 2].startswith("Q")):
            found.add(_LAST[pair])
    for found_word in _WORD.finditer(line):
        side = _BEFORE_HOUR.get(found_word.group())
        if side and _HOUR.match(line, found_word.end() + 1):
            found.add(side)
    return found


def _weak(line: str) -> set[str]:
    """What a line says by an abbreviation alone that scanners print for other things too."""
    words = _WORD.findall(line)
    return {_WEAK[word] for word in words if word in _WEAK} - _sides(
        " ".join(word for word in words if word not in _WEAK)
    )


def _placed(lines: Sequence[str]) -> bool:
    """Whether a breast, a place in it or an hour is named on any of the lines."""
    return any({*_WORD.findall(line)} & {*_BREAST, *_PLACE} or _HOUR.search(line) for line in lines)


def _belongs(line: str, found: re.Match[str]) -> bool:
    """Whether the word right before an hour lets it be one: "GAIN 3 H" is a setting."""
    before = _BEFORE.search(line, 0, found.start())
    if found["kind"].strip() not in _UNSURE or before is None:
        return True
    word = before[1]
    return word in _KNOWN or (len(word) <= 2 and word not in _SETTINGS)


def _hours(line: str, place_is_meant: bool) -> set[int]:
    """Hours that a line names; 0 for a time between two hours."""
    between = {0} if place_is_meant and _HALF.search(line) else set()
    return between | {
        int(found.group(1))
        for found in _HOUR.finditer(line)
        # 10:00 may be the time of day
        if (place_is_meant or not found["kind"].startswith(":")) and _belongs(line, found)
    }


def _speaks_of_place(line: str) -> bool:
    return bool({*_WORD.findall(line)} & {*_BREAST, *_PLACE}) or bool(_sides(line))
