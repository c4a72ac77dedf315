"""Where in the body an image was taken, as far as its header codes it.

Promises: only codes count, never free text; a header that contradicts itself says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

# Anatomic Region Modifier, CID 244 of PS3.16 in SNOMED CT and the older SNOMED RT.
_SIDE_CODES = {"24028007": "R", "G-A100": "R", "7771000": "L", "G-A101": "L"}
_SIDES = frozenset("LR")
# Clock face, CID 6018 of PS3.16 in SNOMED CT, from 1 to 12.
CLOCK_CODES = (
    *("129772004", "129773009", "129774003", "129775002", "129776001", "129777005"),
    *("129778000", "129779008", "129780006", "129781005", "129782003", "129783008"),
)


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
    hours = {CLOCK_CODES.index(code) + 1 for code in _modifiers(header) if code in CLOCK_CODES}
    return hours.pop() if len(hours) == 1 else None


def _modifiers(header: Dataset) -> Iterator[str]:
    """Codes of all modifiers of the anatomic region."""
    for region in (header, *(header.get("AnatomicRegionSequence") or ())):
        for modifier in region.get("AnatomicRegionModifierSequence") or ():
            yield str(modifier.get("CodeValue") or "")
