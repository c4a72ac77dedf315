"""Order of Debian's version numbers, by deb-version(7): epoch, upstream version, revision."""

from __future__ import annotations

import re
from functools import total_ordering
from itertools import zip_longest

_PART = re.compile(r"(\D*)(\d*)")


@total_ordering
class DebianVersion:
    """A version number that can be compared; equal where dpkg calls them equal."""

    def __init__(self, text: str) -> None:
        epoch, colon, rest = text.partition(":")
        if not colon:
            epoch, rest = "0", text
        upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
        self._key = (int(epoch or 0), _parts(upstream), _parts(revision))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DebianVersion) and _compare(self._key, other._key) == 0

    def __lt__(self, other: DebianVersion) -> bool:
        return _compare(self._key, other._key) < 0

    def __hash__(self) -> int:
        raise TypeError("versions that are written differently may be equal")


_Parts = list[tuple[str, int]]


def _parts(text: str) -> _Parts:
    """Alternating non-digits and digits; no digits count as 0."""
    return [(words, int(digits or 0)) for words, digits in _PART.findall(text) if words or digits]


def _compare(one: tuple[int, _Parts, _Parts], other: tuple[int, _Parts, _Parts]) -> int:
    if one[0] != other[0]:
        return -1 if one[0] < other[0] else 1
    return _compare_parts(one[1], other[1]) or _compare_parts(one[2], other[2])


def _compare_parts(one: _Parts, other: _Parts) -> int:
    for (words, number), (other_words, other_number) in zip_longest(one, other, fillvalue=("", 0)):
        mine = ([_weight(letter) for letter in words] + [0], number)
        theirs = ([_weight(letter) for letter in other_words] + [0], other_number)
        if mine != theirs:
            return -1 if mine < theirs else 1
    return 0


def _weight(letter: str) -> int:
    """`~` before the end of a part, the end before letters, letters before other signs."""
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256
