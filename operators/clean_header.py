"""A header made fit to be copied from: what results take over of patient, study and equipment.

Promises: every Type 2 attribute that results copy is there; names fit DICOM's limit; dates, times and sex
are as DICOM has them or empty. Changes a copy, never the header that was read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from operators.read_header import quiet_pydicom

MAXIMUM_NAME_CHARACTERS = 64
# Type 2 attributes of the patient, study, series, equipment and image modules that results copy (PS3.3 C.7).
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
)
_WHOLE_NUMBERS = frozenset({"SeriesNumber", "InstanceNumber"})


def clean(dataset: Dataset) -> Dataset:
    """A copy with Type 2 attributes, names within 64 characters a group, and dates, times and sex mended."""
    with quiet_pydicom():
        copy = deepcopy(dataset)
        for keyword in _TYPE_2:
            if keyword not in copy or copy[keyword].value is None:
                setattr(copy, keyword, None if keyword in _WHOLE_NUMBERS else "")
        for keyword, mended in _MENDED.items():
            copy[keyword].value = mended(str(copy[keyword].value or ""))
        for element in copy:
            if element.VR == "PN":
                names = element.value if isinstance(element.value, MultiValue) else [element.value]
                if any(too_long(str(name or "")) for name in names):
                    cut = [_within_limit(str(name or "")) for name in names]
                    element.value = cut if len(cut) > 1 else cut[0]
    return copy


def _within_limit(name: str) -> str:
    return "=".join(group[:MAXIMUM_NAME_CHARACTERS] for group in name.split("="))


def _date(value: str) -> str:
    """A date as PS3.5 6.2 has it; the dots of ACR-NEMA go, and what is no date."""
    plain = value.strip().replace(".", "")
    try:
        datetime.strptime(plain, "%Y%m%d")
    except ValueError:
        return ""
    return plain if len(plain) == 8 else ""


def _time(value: str) -> str:
    """A time as PS3.5 6.2 has it; the colons of ACR-NEMA go, and what is no time."""
    plain = value.strip().replace(":", "")
    return plain if _TIME.fullmatch(plain) else ""


def _sex(value: str) -> str:
    """One of the defined terms of Patient's Sex (PS3.3 C.7.1.1), or empty."""
    return value.strip().upper() if value.strip().upper() in ("M", "F", "O") else ""


_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_MENDED: Mapping[str, Callable[[str], str]] = {
    "PatientBirthDate": _date,
    "StudyDate": _date,
    "StudyTime": _time,
    "PatientSex": _sex,
}


def too_long(name: str) -> bool:
    """Whether a group of a person name is longer than DICOM allows (PS3.5 6.2.1.1)."""
    return any(len(group) > MAXIMUM_NAME_CHARACTERS for group in name.split("="))
