"""Where in the body an image was taken, as far as its header codes it or its screen says it.

Promises: of a header only codes count, never free text; a header that contradicts itself says nothing, nor do
header and screen where they disagree. What is known carries its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from pydicom.dataset import Dataset

_Stated = TypeVar("_Stated", str, int)

# Anatomic Region Modifier, CID 244 of PS3.16 in SNOMED CT and the older SNOMED RT.
_SIDE_CODES = {"24028007": "R", "G-A100": "R", "7771000": "L", "G-A101": "L"}
_SIDES = frozenset("LR")
# Clock face, CID 6018 of PS3.16 in SNOMED CT, from 1 to 12.
CLOCK_CODES = (
    *("129772004", "129773009", "129774003", "129775002", "129776001", "129777005"),
    *("129778000", "129779008", "129780006", "129781005", "129782003", "129783008"),
)


@dataclass(frozen=True)
class Site:
    """Side ("L", "R") and hour on the clock face of the breast (1 to 12); None where not known."""

    laterality: str | None = None
    clock_hour: int | None = None


class Source(StrEnum):
    """Where side or clock position comes from, as a report names it."""

    HEADER = "header"
    SCREEN = "screen text"
    BOTH = "header and screen text"


@dataclass(frozen=True)
class StatedSite:
    """A site with the source of each part (None where the part is unknown), and what was wrong with it."""

    site: Site = Site()
    laterality_source: Source | None = None
    clock_source: Source | None = None
    notes: tuple[str, ...] = ()


def site_of(header: Dataset, screen: Site = Site()) -> StatedSite:
    """Side and clock position by header and screen together.

    `screen` is what the text on the screen says, an empty site where it was not read.
    """
    side, contradiction = laterality(header)
    notes = [contradiction] if contradiction else []
    side_source = hour_source = None
    if not contradiction:
        side, side_source = _agreed(side, screen.laterality)
        if side_source and side is None:
            notes.append(_DISAGREEMENT.format("sides", "side"))
    hour = None
    if len(_hours(header)) <= 1:
        hour, hour_source = _agreed(clock_hour(header), screen.clock_hour)
        if hour_source and hour is None:
            notes.append(_DISAGREEMENT.format("clock positions", "clock position"))
    return StatedSite(
        Site(side, hour), side_source if side else None, hour_source if hour else None, tuple(notes)
    )


_DISAGREEMENT = (
    "The header of an image and the text on its screen name different {}; its {} is taken as unknown."
)


def _agreed(header: _Stated | None, screen: _Stated | None) -> tuple[_Stated | None, Source | None]:
    """The value both allow and where it is from; no value, but a source, where they disagree."""
    if header is None or screen is None:
        value = screen if header is None else header
        source = Source.SCREEN if header is None else Source.HEADER
        return value, source if value is not None else None
    return (header if header == screen else None), Source.BOTH


def joint_source(sources: Iterable[Source | None]) -> Source | None:
    """The source of what several frames state, None where none states it."""
    known = {source for source in sources if source is not None}
    if len(known) > 1:
        return Source.BOTH
    return next(iter(known), None)


def laterality(header: Dataset) -> tuple[str | None, str | None]:
    """Side of the body ("L", "R" or None) and a warning where the header contradicts itself.

    Sources: ImageLaterality, Laterality (PS3.3 C.7.6.1, C.7.3.1) and the modifier of the anatomic region.
    Bilateral and unpaired say nothing of one side.
    """
    said = {str(header.get(keyword) or "").strip().upper() for keyword in ("ImageLaterality", "Laterality")}
    said |= {_SIDE_CODES.get(code, "") for code in _modifiers(header)}
    sides = said & _SIDES
    if len(sides) > 1:
        return None, "The header of an image names both sides, left and right; its side is taken as unknown."
    return (sides.pop() if sides else None), None


def clock_hour(header: Dataset) -> int | None:
    """Position on the clock face of the breast, 1 to 12; None where it is not coded or contradicts itself."""
    hours = _hours(header)
    return hours.pop() if len(hours) == 1 else None


def _hours(header: Dataset) -> set[int]:
    return {CLOCK_CODES.index(code) + 1 for code in _modifiers(header) if code in CLOCK_CODES}


def _modifiers(header: Dataset) -> Iterator[str]:
    """Codes of all modifiers of the anatomic region."""
    for region in (header, *(header.get("AnatomicRegionSequence") or ())):
        for modifier in region.get("AnatomicRegionModifierSequence") or ():
            yield str(modifier.get("CodeValue") or "")
