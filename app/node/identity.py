"""Whose study is it at the destination? Patients compared, in spellings that differ in form alone.

Promises: what either side leaves out is not compared; a difference is told by the names of the attributes,
never by their values. Refuses to call two patients one where an identifier that both state differs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from app.node.store.schema import IdentityCode

KEYWORDS = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
_ACCENTED = ("LATIN", "GREEK", "CYRILLIC")  # scripts whose accents get lost on the way
_WHY = {
    "study-unknown": "the destination does not know the study",
    "no-query-service": "the destination offers no study query",
    "query-rejected": "the destination rejects the association for a query",
    "query-timeout": "the destination did not answer the query in time",
    "query-failed": "the query failed",
    "unreachable": "the query's address cannot be reached",
    "tls-refused": "the certificate of the query's address cannot be verified",
    "answer-unreadable": "the answer to the query cannot be read",
    "nothing-to-compare": "both sides name too little of the patient",
}


@dataclass(frozen=True)
class Patient:
    """Who a study is of, as one side states it (PS3.3 C.2.2); empty where it states nothing.

    `names` are the alphabetic, ideographic and phonetic representations (PS3.5 6.2.1).
    """

    patient_id: str
    issuer: str
    names: tuple[str, str, str]
    birth_date: str


@dataclass(frozen=True)
class Compared:
    """What came of a comparison: a code of `delivery.identity`, and the keywords that differ."""

    code: str
    differing: tuple[str, ...] = ()


def patient_of(dataset: Dataset) -> Patient:
    """The patient that a data set names."""
    alphabetic, ideographic, phonetic = [*_text(dataset, "PatientName").split("="), "", ""][:3]
    return Patient(
        patient_id=_text(dataset, "PatientID"),
        issuer=_text(dataset, "IssuerOfPatientID"),
        names=(alphabetic, ideographic, phonetic),
        birth_date="".join(filter(str.isdigit, _text(dataset, "PatientBirthDate"))),
    )


def read_patient(path: Path) -> Patient:
    """The patient that a file names; one without attributes where they cannot be read."""
    try:
        return patient_of(dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS)))
    except Exception:  # whatever a source's header does to the library, its result is sent
        return Patient("", "", ("", "", ""), "")


def compare(ours: Patient, theirs: Sequence[Patient]) -> Compared:
    """Compare the patient of a result with those that the destination has under its study.

    One that differs is enough for a mismatch: two patients under one study are for a person to sort out.
    """
    if not theirs:
        return Compared("study-unknown")
    differing = {keyword for one in theirs for keyword in _differing(ours, one)}
    if differing:
        return Compared(IdentityCode.MISMATCH, tuple(keyword for keyword in KEYWORDS if keyword in differing))
    return Compared(
        IdentityCode.MATCHED if any(_comparable(ours, one) for one in theirs) else "nothing-to-compare"
    )


def not_checked(code: str | None) -> str | None:
    """Why a delivery's identity was not checked, for a person; None where it was, or was not to be."""
    return (
        None
        if code is None or code in set(IdentityCode)
        else _WHY.get(code, f"the query was answered {code}")
    )


def _differing(ours: Patient, theirs: Patient) -> list[str]:
    pairs = {
        "PatientID": (ours.patient_id, theirs.patient_id),
        "IssuerOfPatientID": (ours.issuer, theirs.issuer),
        "PatientBirthDate": (ours.birth_date, theirs.birth_date),
    }
    found = [keyword for keyword, (one, other) in pairs.items() if one and other and one != other]
    return found + (["PatientName"] if _same_name(ours, theirs) is False else [])


def _comparable(ours: Patient, theirs: Patient) -> bool:
    """Whether enough was compared: the identifier, or name and date of birth."""
    if ours.patient_id and theirs.patient_id:
        return True
    return bool(ours.birth_date and theirs.birth_date and _same_name(ours, theirs))


def _same_name(ours: Patient, theirs: Patient) -> bool | None:
    """Whether every representation that both sides give agrees; None where there is none.

    One that agrees excuses none that differs: a phonetic name is shared by many, and a wrong one left over.
    """
    agreeing = [_agree(one, other) for one, other in zip(ours.names, theirs.names, strict=True)]
    given = [one for one in agreeing if one is not None]
    return all(given) if given else None


def _agree(one: str, other: str) -> bool | None:
    """Compare family, given and middle name as far as both sides state them; titles say nothing."""
    parts = [(_folded(a), _folded(b)) for a, b in zip(_components(one), _components(other), strict=True)]
    both = [a == b for a, b in parts if a and b]
    return all(both) if both else None


def _components(name: str) -> list[str]:
    return [*name.split("^"), "", "", ""][:3]


def _folded(text: str) -> str:
    """A name without what systems change on the way: case, accents, hyphens, spaces, width.

    Marks go where systems leave them out, on Latin, Greek and Cyrillic letters; elsewhere they make another
    letter, as the dakuten does.
    """
    kept, accents_go = [], False
    for one in unicodedata.normalize("NFKD", text.replace("\ufffd", "")):
        if unicodedata.category(one).startswith("M"):
            if not accents_go:
                kept.append(one)
        elif one.isalnum():
            accents_go = unicodedata.name(one, "").startswith(_ACCENTED)
            kept.append(one)
    return "".join(kept).casefold()


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if isinstance(value, MultiValue):  # not allowed for any of these; the first is as good as another
        value = value[0] if value else ""
    return str(value or "").strip(" \0")
