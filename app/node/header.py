"""Reads, with bounds, what the receiver must know of an object: its identifiers, its maker, its wholeness.

Promises: pixels are stepped over, never decoded; memory and time are bounded whatever the bytes claim.
Refuses what cannot be filed and nothing else: an object that lacks an identifier or is cut short. One that
is damaged, nested too deep or encoded otherwise than announced is kept as soon as its identifiers are
known: the analysis says what is wrong with it.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pydicom import dcmread

OWN_MANUFACTURER = "busmap"  # what results carry as Manufacturer

_UID = re.compile(r"\d+(\.\d+)+$")
_KEYWORDS = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
}
_MANUFACTURER, _CONTRIBUTING_EQUIPMENT = 0x00080070, 0x0018A001
_WANTED = frozenset({*_KEYWORDS, _MANUFACTURER, _CONTRIBUTING_EQUIPMENT})

_LONG_LENGTH = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_MAXIMUM_ELEMENTS = 1_000_000
_LONGEST_VALUE = 256  # of an identifier; a UID has 64 characters
_SHORT_LENGTH = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH"}
    | {b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)


class RefusedObject(ValueError):
    """The object cannot be kept. The message fits an ErrorComment (64 characters)."""


@dataclass(frozen=True)
class Identity:
    """What names a received object, and whether busmap made it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    made_by_busmap: bool


def read_identity(path: Path, transfer_syntax_uid: str) -> Identity:
    """Read the identifiers of a file and check that its data set is not cut.

    Raises
    ------
    RefusedObject
        The data set is cut, or an identifier is missing or malformed.
    """
    with path.open("rb") as file:
        walk = _Walk(file, path.stat().st_size)
        walk.follow(implicit=transfer_syntax_uid == _IMPLICIT, big_endian=transfer_syntax_uid == _BIG_ENDIAN)
    values = {keyword: walk.found.get(tag, "") for tag, keyword in _KEYWORDS.items()}
    for keyword in _KEYWORDS.values():
        value = values[keyword]
        if not value:
            raise RefusedObject(f"{keyword} is missing; correct it at the source")
        if len(value) > 64 or not _UID.match(value):
            raise RefusedObject(f"{keyword} is no UID; correct it at the source")
    return Identity(
        values["StudyInstanceUID"],
        values["SeriesInstanceUID"],
        values["SOPInstanceUID"],
        values["SOPClassUID"],
        _is_own(walk.found.get(_MANUFACTURER, ""))
        or (_CONTRIBUTING_EQUIPMENT in walk.found and _contributed(path)),
    )


def _is_own(manufacturer: str) -> bool:
    return manufacturer.strip().lower() == OWN_MANUFACTURER


def _contributed(path: Path) -> bool:
    """Whether busmap is among the contributing equipment."""
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=["ContributingEquipmentSequence"])
        equipment = dataset.get("ContributingEquipmentSequence") or ()
        return any(_is_own(str(one.get("Manufacturer") or "")) for one in equipment)
    except Exception:  # whatever is so damaged is none of our results; the analysis names the damage
        return False


class _Walk:
    """Steps from element to element to the end of the file, without recursion.

    `found` are the wanted values of the outermost level, as far as the walk came; of a sequence, that it is
    there.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._position = 0
        self._order: Literal["little", "big"] = "little"
        self.found: dict[int, str] = {}
        head = file.read(144)
        if len(head) < 144 or head[128:132] != b"DICM":
            raise RefusedObject("no file meta information")
        self._position = file.seek(144 + int.from_bytes(head[140:144], "little"))  # PS3.10 7.1
        if self._position > size:
            raise RefusedObject("file meta information is cut short; send it again")

    def follow(self, *, implicit: bool, big_endian: bool) -> None:
        """Follow the data set to its end, or to where it makes no sense; RefusedObject where it is cut."""
        self._order = "big" if big_endian else "little"
        implicit = self._really_implicit(announced=implicit)
        header = struct.Struct("<HHL" if self._order == "little" else ">HHL")
        # What encloses the place: "items" of a sequence, or the "elements" of an item, with their encoding.
        enclosing: list[tuple[str, bool]] = []
        for _ in range(_MAXIMUM_ELEMENTS):
            if not enclosing and (self._position == self._size or self._only_padding()):
                return
            inside, coding = enclosing[-1] if enclosing else ("elements", implicit)
            head = self._read(8)  # an element, an item and a delimiter all begin with as many bytes
            group, element, length = header.unpack(head)
            tag = (group << 16) | element
            if not enclosing and tag in (_ITEM_END, _SEQUENCE_END):
                continue  # a stray delimiter of some devices; what follows it is sound
            if inside == "items" or tag in (_ITEM_END, _SEQUENCE_END):
                if tag == _ITEM and inside == "items":
                    if length == _UNDEFINED:
                        enclosing.append(("elements", coding))
                    else:
                        self._skip(length)
                elif enclosing and tag == (_SEQUENCE_END if inside == "items" else _ITEM_END):
                    enclosing.pop()
                else:
                    return  # damaged here
            else:
                nested = coding
                if not coding:
                    length, nested = self._explicit_length(head, length)
                self._element(tag, length, outermost=not enclosing)
                if length == _UNDEFINED:
                    enclosing.append(("items", nested))

    def _element(self, tag: int, length: int, *, outermost: bool) -> None:
        """Read what is wanted, step over the rest; into a sequence of undefined length the walk goes on."""
        if outermost and tag in _WANTED:
            wanted = tag in _KEYWORDS or tag == _MANUFACTURER
            value = self._read(length) if wanted and length <= _LONGEST_VALUE else b""
            self.found[tag] = value.rstrip(b"\0 ").strip().decode("ascii", "replace")
            length = 0 if value else length
        if length not in (0, _UNDEFINED):
            self._skip(length)

    def _really_implicit(self, *, announced: bool) -> bool:
        """Whether elements have no VR; sets the byte order too.

        What the first element shows counts, not what was announced: an object that is encoded otherwise can
        be filed all the same.
        """
        first = self._file.read(8)
        self._file.seek(-len(first), 1)
        if first[:2] in (b"\x08\x00", b"\x00\x08"):  # group 0008 comes first
            self._order = "little" if first[0] else "big"
        return announced and first[4:6] not in _SHORT_LENGTH | _LONG_LENGTH

    def _only_padding(self) -> bool:
        """Some devices pad the end with zeros; less than an element, or a whole block."""
        left = self._size - self._position
        if left > 4096:
            return False
        rest = self._read(left)
        self._file.seek(-left, 1)
        self._position -= left
        return not any(rest)

    def _explicit_length(self, head: bytes, length: int) -> tuple[int, bool]:
        """Length of the element, and whether what it holds is coded with implicit VR."""
        vr = head[4:6]
        if vr in _LONG_LENGTH:
            # PS3.5 6.2.2: UN of undefined length holds implicit VR
            return int.from_bytes(self._read(4), self._order), vr == b"UN"
        if not (vr.isalpha() and vr.isupper()):
            return length, True  # no VR: some devices slip an implicit element in, which readers forgive
        return int.from_bytes(head[6:8], self._order), False

    def _read(self, count: int) -> bytes:
        value = self._file.read(count)
        if len(value) < count:
            raise RefusedObject("data set is cut short; send it again")
        self._position += count
        return value

    def _skip(self, count: int) -> None:
        if self._position + count > self._size:
            raise RefusedObject("data set is cut short; send it again")
        self._file.seek(count, 1)
        self._position += count
