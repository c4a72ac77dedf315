"""Reads, with bounds, what the receiver must know of an object: its identifiers, its maker, its wholeness.

Promises: pixels are stepped over, never decoded; memory and time are bounded whatever the bytes claim.
Refuses an object that lacks an identifier, is cut short, or cannot be followed to its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pydicom import dcmread

OWN_MANUFACTURER = "busmap"  # what results carry as Manufacturer

_UID = re.compile(r"\d+(\.\d+)+$")
_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_TAGS = [*_KEYWORDS, "Manufacturer", "ContributingEquipmentSequence"]

_LONG_LENGTH = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_MAXIMUM_DEPTH = 64
_MAXIMUM_ELEMENTS = 1_000_000


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


def data_set_offset(path: Path) -> int:
    """Where the data set begins in a file with preamble and file meta information (PS3.10 7.1)."""
    with path.open("rb") as file:
        head = file.read(144)
    if len(head) < 144 or head[128:132] != b"DICM":
        raise RefusedObject("no file meta information")
    return 144 + int.from_bytes(head[140:144], "little")


def read_identity(path: Path, transfer_syntax_uid: str) -> Identity:
    """Read the identifiers of a file and check that its data set is whole.

    Raises
    ------
    RefusedObject
        The data set is cut, cannot be followed, or lacks an identifier.
    """
    _require_whole(path, transfer_syntax_uid)
    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        values = {keyword: str(dataset.get(keyword) or "").strip() for keyword in _KEYWORDS}
        makers = [dataset, *(dataset.get("ContributingEquipmentSequence") or ())]
        own = any(
            str(maker.get("Manufacturer") or "").strip().lower() == OWN_MANUFACTURER for maker in makers
        )
    except Exception as error:
        raise RefusedObject("data set cannot be read; send it again") from error
    for keyword, value in values.items():
        if not value:
            raise RefusedObject(f"{keyword} is missing; correct it at the source")
        if len(value) > 64 or not _UID.match(value):
            raise RefusedObject(f"{keyword} is no UID; correct it at the source")
    return Identity(
        values["StudyInstanceUID"],
        values["SeriesInstanceUID"],
        values["SOPInstanceUID"],
        values["SOPClassUID"],
        own,
    )


def _require_whole(path: Path, transfer_syntax_uid: str) -> None:
    offset, size = data_set_offset(path), path.stat().st_size
    if offset > size:
        raise RefusedObject("file meta information is cut short; send it again")
    with path.open("rb") as file:
        file.seek(offset)
        walk = _Walk(file, size)
        walk.follow(implicit=transfer_syntax_uid == _IMPLICIT, big_endian=transfer_syntax_uid == _BIG_ENDIAN)


class _Walk:
    """Steps from element to element to the end of the file, without recursion and without reading values."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._position = file.tell()
        self._order: Literal["little", "big"] = "little"

    def follow(self, *, implicit: bool, big_endian: bool) -> None:
        """Follow the data set to its end; RefusedObject where it ends too early or makes no sense."""
        self._order = "big" if big_endian else "little"
        # What encloses the place: "items" of a sequence, or the "elements" of an item, with their encoding.
        enclosing: list[tuple[str, bool]] = []
        for _ in range(_MAXIMUM_ELEMENTS):
            if self._position == self._size and not enclosing:
                return
            if not enclosing and self._only_padding():
                return
            inside, coding = enclosing[-1] if enclosing else ("elements", implicit)
            tag = self._tag()
            if not enclosing and tag in (_ITEM_END, _SEQUENCE_END):
                self._number(4)  # a stray delimiter of some devices; what follows it is sound
            elif inside == "items" or tag in (_ITEM_END, _SEQUENCE_END):
                length = self._number(4)
                if tag == _ITEM and inside == "items":
                    if length == _UNDEFINED:
                        enclosing.append(("elements", coding))
                    else:
                        self._skip(length)
                elif enclosing and tag == (_SEQUENCE_END if inside == "items" else _ITEM_END):
                    enclosing.pop()
                else:
                    raise RefusedObject("data set is damaged; send it again")
            else:
                length, nested = self._length(coding)
                if length == _UNDEFINED:
                    enclosing.append(("items", nested))
                else:
                    self._skip(length)
            if len(enclosing) > _MAXIMUM_DEPTH:
                raise RefusedObject("sequences are nested too deep")
        raise RefusedObject("data set has too many elements")

    def _only_padding(self) -> bool:
        """Some devices pad the end with zeros; less than an element, or a whole block."""
        left = self._size - self._position
        if left > 4096:
            return False
        rest = self._read(left)
        self._file.seek(-left, 1)
        self._position -= left
        return not any(rest)

    def _tag(self) -> int:
        return (self._number(2) << 16) | self._number(2)

    def _length(self, implicit: bool) -> tuple[int, bool]:
        """Length of the element, and whether what it holds is coded with implicit VR."""
        if implicit:
            return self._number(4), True
        vr = self._read(2)
        if vr in _LONG_LENGTH:
            self._skip(2)
            return self._number(4), vr == b"UN"  # PS3.5 6.2.2: UN of undefined length holds implicit VR
        if not (vr.isalpha() and vr.isupper()):
            # No VR: some devices slip an implicit element in, which readers forgive.
            return int.from_bytes(vr + self._read(2), self._order), True
        return self._number(2), False

    def _number(self, count: int) -> int:
        return int.from_bytes(self._read(count), self._order)

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
