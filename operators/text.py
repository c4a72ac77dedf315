"""Text of a header as Unicode, whatever character set it is in, declared, undeclared or wrongly declared.

Promises: what is encoded as declared (PS3.5 6.1, code extensions included) comes out as it was meant; what is
not is read as UTF-8 where it is valid UTF-8 and as Latin-1 otherwise, which loses no byte, and a sentence
says so. No control character is left in a name. Never raises on foreign bytes.
"""

from __future__ import annotations

import re
import unicodedata
import warnings

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import TEXT_VR_DELIMS, PersonName

TEXT_VR = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ONE_LINE_VR = frozenset({"LO", "PN", "SH", "UC"})  # several values, no line breaks (PS3.5 6.2)
_ESCAPE = b"\x1b"
_DESIGNATION = re.compile("\x1b[ -/]*[0-~]")  # ISO 2022: escape, intermediate bytes, final byte
_DEFAULT_REPERTOIRE = ("", "ISO_IR 6", "ISO 2022 IR 6")
_UTF_8 = python_encoding["ISO_IR 192"]
_EXTENSIONS = sorted({value for key, value in python_encoding.items() if key.startswith("ISO 2022 IR")})

NOT_DECLARED = "Text beyond ASCII without a declared character set was read as {}; names may look odd."
NOT_AS_DECLARED = "Text that does not fit its declared character set was read as {}; names may look odd."
UNKNOWN_SET = "Text in an unknown character set was read as {}; names may look odd."
CONTROLS = "Control characters in text were left out."


def read_text(dataset: Dataset, inherited: list[str] | None = None) -> tuple[list[str], list[str] | None]:
    """Convert in place all text of one level that goes beyond ASCII.

    Call it on a data set as read, before its values are used, and then on its items.

    Parameters
    ----------
    inherited : Python encodings of the data set around an item (PS3.3 C.12.1.1.2).

    Returns
    -------
    notes, encodings
        Sentences on what was not as declared; the encodings that items inherit.
    """
    notes: list[str] = []
    encodings, broken = _encodings(dataset, inherited)
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        if not isinstance(raw, RawDataElement) or not isinstance(raw.value, bytes):
            continue
        vr = raw.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
        if vr not in TEXT_VR or (raw.value.isascii() and _ESCAPE not in raw.value):
            continue
        text = None if encodings is None else _strictly(raw.value, encodings)
        if text is None:
            text, how = _somehow(raw.value, encodings or ["ascii"])
            notes.append(broken.format(how))
        dataset[tag] = DataElement(tag, vr, _values(text, vr))
    return list(dict.fromkeys(notes)), encodings


def without_controls(dataset: Dataset) -> list[str]:
    """Take control characters out of names and short texts, in place; answers what was done."""
    found = False
    for element in dataset:  # a NUL pads; that it goes is not worth a word
        if element.VR not in _ONE_LINE_VR or not element.value:
            continue
        values = element.value if isinstance(element.value, MultiValue) else [element.value]
        texts = [str(one) for one in values]
        plain = ["".join(character for character in text if not _control(character)) for text in texts]
        if plain != texts:
            found |= any(text.replace("\0", "") != one for text, one in zip(texts, plain, strict=True))
            element.value = _values("\\".join(plain), element.VR)
    return [CONTROLS] if found else []


def _encodings(dataset: Dataset, inherited: list[str] | None) -> tuple[list[str] | None, str]:
    """Python encodings declared, None where none is or they are unknown; and what to say of broken text."""
    declared = dataset.get("SpecificCharacterSet")
    if not declared:
        return inherited, NOT_AS_DECLARED if inherited else NOT_DECLARED
    values = [str(one or "") for one in ([declared] if isinstance(declared, str) else declared)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            encodings = convert_encodings(values)
    except Exception:  # a name that is no character set, or a combination that is none
        return None, UNKNOWN_SET
    if values[0] in _DEFAULT_REPERTOIRE:
        encodings[0] = "ascii"  # the reader would take it for Latin-1
    return encodings, NOT_AS_DECLARED


def _strictly(value: bytes, encodings: list[str]) -> str | None:
    """The text where every byte has a meaning in the encodings, else None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the reader warns where it would put replacement characters
            # Of some designations to G1 the reader leaves the sequence itself behind.
            return _DESIGNATION.sub("", decode_bytes(value, encodings, TEXT_VR_DELIMS))
    except Exception:  # codecs and the reader raise many things on foreign bytes
        return None


def _somehow(value: bytes, encodings: list[str]) -> tuple[str, str]:
    """The text, and the name of the reading by which it was had."""
    if _ESCAPE in value:
        text = _strictly(value, [encodings[0], *_EXTENSIONS])
        if text is not None:
            return text, "its escape sequences say"
    try:
        return value.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        return value.decode("latin-1"), "Latin-1"


def _values(text: str, vr: str) -> object:
    text = text.rstrip("\0 ")
    if vr not in _ONE_LINE_VR:
        return text
    parts = [_person_name(part) if vr == "PN" else part for part in text.split("\\")]
    return parts[0] if len(parts) == 1 else parts


def _person_name(text: str) -> PersonName:
    """A name that stays what it is whatever character set a writer is told of."""
    return PersonName(text.encode("utf-8"), [_UTF_8]).decode([_UTF_8])


def _control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"
