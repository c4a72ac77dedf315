"""Read the header of a DICOM file within bounds.

Promises: pixel data is never read here; a header of more than 64 MiB, a deflated file that inflates to
more than 128 MiB, sequences nested deeper than 64 levels and a header cut in the middle are refused with
a sentence that names the cause. What is returned is free of private attributes and holds Unicode text. An
object that must not be analysed (encoded in another way than its file meta information says, nested too
deep) still names its study and patient where these can be read, so that a report can tell of it.
Refuses: files without the DICOM preamble (PS3.10 7.1), and headers that name nothing.
"""

from __future__ import annotations

import logging
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import BYTES_VR, FLOAT_VR, INT_VR, STR_VR

from operators.study import Reason
from operators.text import read_text, without_controls

MAXIMUM_HEADER_BYTES = 64 * 2**20
MAXIMUM_INFLATED_BYTES = 128 * 2**20
MAXIMUM_NESTING = 64
MAXIMUM_ELEMENT_BYTES = 2**20
PREAMBLE_BYTES = 128
_LAST_NAMING_GROUP = 0x0020
_UNDEFINED_LENGTH = 0xFFFFFFFF

_QUIET = threading.RLock()


class UnreadableHeaderError(ValueError):
    """A file's header cannot be used. `reason` and `detail` go into a SetAside as they are."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Header:
    """A file's data set before its pixel data, cleaned.

    `warnings` are sentences on what was mended. `has_pixel_data` tells whether a Pixel Data element follows.
    `pixel_bytes`: the declared length of that element and the bytes really there, None where it is
    encapsulated or absent. `fault`: why the object must not be analysed; `dataset` then serves to name its
    study and patient.
    """

    dataset: Dataset = field(repr=False)
    transfer_syntax_uid: str
    has_pixel_data: bool
    warnings: tuple[str, ...] = ()
    pixel_bytes: tuple[int, int] | None = None
    fault: tuple[Reason, str] | None = None


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep the remarks of pydicom and highdicom, which quote names and UIDs, off stderr and out of every log.

    The lock keeps two threads from restoring each other's warning filters.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [(one, one.level) for one in loggers]
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for one, level in levels:
                one.setLevel(level)


class BoundedFile:
    """A binary file that never reads past its end nor beyond a budget, whatever length is declared.

    `cut_reads` counts reads that got less than asked for but more than nothing, or nothing once more after
    the end: both mean that the file ends inside an element.
    """

    def __init__(self, file: BinaryIO, budget: int) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        file.seek(0)
        self._budget = budget
        self._ends_met = 0
        self.cut_reads = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes; raises UnreadableHeaderError beyond the budget."""
        available = max(self._size - self._file.tell(), 0)
        wanted = available if size < 0 else size
        taken = min(wanted, available)
        if taken < wanted:
            self._ends_met += 1
            self.cut_reads += taken > 0 or self._ends_met > 1
        if taken > self._budget:
            raise UnreadableHeaderError(
                Reason.UNREADABLE,
                f"The header is longer than {MAXIMUM_HEADER_BYTES // 2**20} MiB, which no ultrasound image "
                "needs; check the object at its source.",
            )
        self._budget -= taken
        return self._file.read(taken)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move as a file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Position in bytes."""
        return self._file.tell()

    def lift_budget(self) -> None:
        """From here on only the file's own size bounds a read (pixel data, frame by frame)."""
        self._budget = self._size

    def remaining(self) -> int:
        """Bytes from the position to the end."""
        return max(self._size - self._file.tell(), 0)


@contextmanager
def open_part10(path: Path) -> Iterator[BoundedFile]:
    """Open a DICOM file; a deflated data set (PS3.5 A.5) is inflated in memory, within its bound.

    Raises
    ------
    UnreadableHeaderError
        Not a DICOM file, or it inflates beyond the bound.
    """
    with path.open("rb") as file:
        start = _file_meta(file)
        if _meta_transfer_syntax(start) == DeflatedExplicitVRLittleEndian:
            file.seek(len(start))
            plain = start.replace(
                DeflatedExplicitVRLittleEndian.encode(), ExplicitVRLittleEndian.encode().ljust(22, b"\0")
            )
            yield BoundedFile(BytesIO(plain + _inflate(file)), MAXIMUM_HEADER_BYTES)
        else:
            file.seek(0)
            yield BoundedFile(file, MAXIMUM_HEADER_BYTES)


def read_header(path: Path) -> Header:
    """Read and clean the header of one file.

    Raises
    ------
    UnreadableHeaderError
        The file is not DICOM, cut, too deep, too long, or contradicts its file meta information.
    """
    with quiet_pydicom(), open_part10(path) as file:
        declared = _meta_transfer_syntax(_file_meta(file))
        file.seek(0)
        try:
            return _parse(file, declared)
        except UnreadableHeaderError as error:
            fault = error
        except RecursionError:
            fault = _too_deep()
        except Exception as error:  # a parser of foreign bytes may raise anything
            fault = UnreadableHeaderError(
                Reason.UNREADABLE,
                f"The header cannot be parsed ({type(error).__name__}); send it again from its source.",
            )
        named = _naming_part(file, declared, fault)
        if named is None:
            raise fault
        return named


def _parse(file: BoundedFile, declared: str) -> Header:
    dataset = dcmread(file, stop_before_pixels=True)  # type: ignore[arg-type]
    has_pixel_data = file.remaining() > 0
    if not has_pixel_data and (file.cut_reads or len(dataset) == 0):
        raise UnreadableHeaderError(
            Reason.UNREADABLE, "The file ends in the middle of its header; send it again from its source."
        )
    _check_encoding(dataset, declared)
    header = _cleaned(dataset, declared, has_pixel_data=has_pixel_data)
    start = pixel_data_start(file, declared)
    if start is None or start[1] == _UNDEFINED_LENGTH:
        return header
    return replace(header, pixel_bytes=(start[1], file.remaining()))


def pixel_data_start(file: BoundedFile, transfer_syntax_uid: str) -> tuple[str, int] | None:
    """VR and declared length of Pixel Data where `file` stands at it, else None; leaves it at the value."""
    order: Literal["big", "little"] = "big" if transfer_syntax_uid == ExplicitVRBigEndian else "little"
    start = file.read(8)
    group, element = (int.from_bytes(start[at : at + 2], order) for at in (0, 2))
    if (group, element) != (0x7FE0, 0x0010):
        return None
    if transfer_syntax_uid == ImplicitVRLittleEndian:
        return "OW", int.from_bytes(start[4:8], order)
    return start[4:6].decode("ascii", "replace"), int.from_bytes(file.read(4), order)


def _naming_part(file: BoundedFile, declared: str, fault: UnreadableHeaderError) -> Header | None:
    """What names patient, study, series and instance (groups 0008 to 0020); None where it is not whole."""
    file.seek(0)
    try:
        dataset = read_partial(file, lambda tag, _vr, _length: tag.group > _LAST_NAMING_GROUP)  # type: ignore[arg-type]
        if file.remaining() == 0:
            return None
        header = _cleaned(dataset, declared, has_pixel_data=False)
    except Exception:  # the fault that led here is the one to tell
        return None
    return replace(header, fault=(fault.reason, fault.detail))


def _cleaned(dataset: Dataset, declared: str, *, has_pixel_data: bool) -> Header:
    notes = _settle(dataset, 1) + without_controls(dataset)
    dataset.add_new("SpecificCharacterSet", "CS", "ISO_IR 192")
    cleaned = Dataset(dataset)
    cleaned.file_meta = FileMetaDataset()
    if declared:
        cleaned.file_meta.TransferSyntaxUID = UID(declared)
    return Header(cleaned, declared, has_pixel_data, tuple(dict.fromkeys(notes)))


def _file_meta(file: BinaryIO | BoundedFile) -> bytes:
    """Preamble and file meta information as bytes (PS3.10 7.1)."""
    start = file.read(PREAMBLE_BYTES + 4)
    if start[PREAMBLE_BYTES:] != b"DICM":
        raise UnreadableHeaderError(Reason.NOT_DICOM, _why_not_dicom(start))
    group_length = file.read(12)
    if group_length[:6] != b"\x02\x00\x00\x00UL":
        return start + group_length
    return start + group_length + file.read(min(int.from_bytes(group_length[8:12], "little"), 2**16))


def _why_not_dicom(start: bytes) -> str:
    if not start:
        return "The file is empty; send it again from its source."
    if start[:4] in (b"\x02\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x00\x00"):
        return (
            "The file looks like a bare DICOM data set without preamble and file meta information, so its "
            "encoding is unknown; export it again as a DICOM file (PS3.10)."
        )
    return "This is not a DICOM file: the mark DICM after the preamble is missing; give DICOM files (PS3.10)."


def _meta_transfer_syntax(meta: bytes) -> str:
    """Value of Transfer Syntax UID (0002,0010) in raw file meta information; empty where absent."""
    at = meta.find(b"\x02\x00\x10\x00UI", PREAMBLE_BYTES)
    if at < 0:
        return ""
    length = int.from_bytes(meta[at + 6 : at + 8], "little")
    return meta[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")


def _inflate(file: BinaryIO) -> bytes:
    packed = file.read(MAXIMUM_INFLATED_BYTES)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(packed, MAXIMUM_INFLATED_BYTES)
    except zlib.error:
        raise UnreadableHeaderError(
            Reason.UNREADABLE, "The deflated data set is damaged; send it again from its source."
        ) from None
    if inflater.unconsumed_tail:
        raise UnreadableHeaderError(
            Reason.UNREADABLE,
            f"The deflated data set grows beyond {MAXIMUM_INFLATED_BYTES // 2**20} MiB; send it uncompressed "
            "or with another transfer syntax.",
        )
    if not inflater.eof:
        raise UnreadableHeaderError(
            Reason.UNREADABLE, "The deflated data set ends too early; send it again from its source."
        )
    return data


def _check_encoding(dataset: FileDataset, declared: str) -> None:
    """Refuse a data set whose encoding contradicts its declared transfer syntax."""
    # An element not yet converted still knows how it was encoded.
    first = next((one for one in dataset.values() if isinstance(one, RawDataElement)), None)
    if not declared or first is None:
        return
    expected = (declared == ImplicitVRLittleEndian, declared != ExplicitVRBigEndian)
    if (first.is_implicit_VR, first.is_little_endian) != expected:
        raise UnreadableHeaderError(
            Reason.UNREADABLE,
            "The file meta information names another transfer syntax than the data set is encoded in; "
            "export the object again from its source.",
        )


def _too_deep() -> UnreadableHeaderError:
    return UnreadableHeaderError(
        Reason.UNREADABLE,
        f"Sequences are nested deeper than {MAXIMUM_NESTING} levels; check the object at its source.",
    )


def _settle(dataset: Dataset, level: int, encodings: list[str] | None = None) -> list[str]:
    """Convert every element now, level by level; drop what is private, oversized or unreadable.

    `encodings` are those that the items of a sequence inherit for their text.
    """
    if level > MAXIMUM_NESTING:
        raise _too_deep()
    notes, encodings = read_text(dataset, encodings)
    for tag in list(dataset.keys()):
        if tag.is_private:
            del dataset[tag]
            continue
        try:
            items = _items(dataset, tag)
        except RecursionError:
            raise
        except Exception as error:  # one broken value must not cost the image
            if tag.group == 0x0028:
                raise UnreadableHeaderError(
                    Reason.UNREADABLE,
                    f"The attribute {tag} that describes the pixels cannot be read; "
                    "send the image again from its source.",
                ) from error
            del dataset[tag]
            if tag.group != 0xFFFE:  # a stray delimiter holds nothing
                notes.append(f"The attribute {tag} cannot be read and is left out.")
            continue
        for item in items:
            notes += _settle(item, level + 1, encodings)
    return notes


def _items(dataset: Dataset, tag: BaseTag) -> list[Dataset]:
    """Convert one element; its items where it is a sequence. Raises anything on bytes that are none."""
    raw = dataset.get_item(tag).value
    if isinstance(raw, bytes) and len(raw) > MAXIMUM_ELEMENT_BYTES:
        raise ValueError("longer than any value that is used")
    element = dataset[tag]
    if dictionary_has_tag(tag) and not _same_kind(element.VR, dictionary_VR(tag)):
        raise ValueError("text where a number belongs, or the like")
    return list(element.value or ()) if element.VR == "SQ" else []


def _same_kind(one: str, other: str) -> bool:
    """Whether two VRs hold the same kind of value; an ambiguous one ("US or SS") is taken as it comes."""
    kinds = ({"SQ"}, STR_VR, INT_VR | FLOAT_VR | BYTES_VR)
    return " or " in one + other or any(one in kind and other in kind for kind in kinds)
