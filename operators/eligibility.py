"""Which received objects may be analysed, told from their header alone.

Promises: one reason for each object that may not be, with a sentence for a person. What an image shows of
the breast is judged later, from its pixels; here only what the header claims counts.
The rule of the body part: the region coded for the image decides (AnatomicRegionSequence, then
BodyPartExamined). Where neither is set, free text (descriptions of study and series, protocol, preset of the
probe) excludes an image only if it names another organ and no breast. Silence never excludes.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from operators.pixel_layout import UndecodableError, registered_name, require_decoder
from operators.read_header import Header
from operators.study import Reason

OWN_MANUFACTURER = "busmap"  # what operators/report/uids.py writes as Manufacturer

_STORAGE = "1.2.840.10008.5.1.4.1.1."
ULTRASOUND_CLASSES = frozenset(_STORAGE + suffix for suffix in ("6.1", "3.1", "6", "3"))
SECONDARY_CAPTURE_CLASSES = frozenset(_STORAGE + suffix for suffix in ("7", "7.1", "7.2", "7.3", "7.4"))
# Classes without an image to analyse: reports, states, documents, waveforms, segmentations, key objects.
_NOT_IMAGES = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(88|11|104|9|66|67|68|30)(\.\d+)*$")
_VOLUME_CLASS = _STORAGE + "6.2"

_UID = re.compile(r"\d+(\.\d+)+$")  # leading zeros of a component are a common and harmless fault
_IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")

_BREAST = re.compile(r"breast|mamma|mama\b|\bmamm?o|brust|\bsein|borst|bryst|bröst|乳", re.IGNORECASE)
_OTHER_ORGAN = re.compile(
    r"\b(?:\w*(?:abdom|cardi|hepat|obstet|renal|thyroid|vascular|venous)|liver|kidney|echo\b|heart|fetal|foetal|pelvi|"
    r"prostat|testes|testic|testis|scrot|carotid|arter|bladder|pancrea|spleen|uterus|ovar|hip\b|knee|shoulder|neck\b|"
    r"lung)\w*",
    re.IGNORECASE,
)
# SNOMED CT and, in older objects, SNOMED RT (PS3.16 annex L).
_BREAST_CODES = frozenset(
    {"76752008", "T-04000", "73056007", "T-04020", "80248007", "T-04030", "63762007", "T-04080"}
)
_DESCRIPTIONS = ("StudyDescription", "SeriesDescription", "ProtocolName", "ProcessingFunction")

Verdict = tuple[Reason, str]


def identity_fault(header: Dataset) -> Verdict | None:
    """A missing or malformed UID, without which nothing can refer to the object (PS3.5 9.1)."""
    missing = [keyword for keyword in _IDENTIFIERS if not str(header.get(keyword) or "").strip()]
    if missing:
        return (
            Reason.MISSING_UID,
            f"The object lacks {', '.join(missing)}, so no report can refer to it; correct it at its source.",
        )
    malformed = [keyword for keyword in _IDENTIFIERS if not valid_uid(str(header[keyword].value))]
    if malformed:
        return (
            Reason.MALFORMED_UID,
            f"{', '.join(malformed)} is no DICOM UID (digits, dots, at most 64); correct it at its source.",
        )
    return None


def valid_uid(value: str) -> bool:
    """Whether a value can serve as a UID (PS3.5 9.1), leading zeros forgiven."""
    return len(value) <= 64 and bool(_UID.match(value))


def ineligible(header: Header, *, accept_secondary_capture: bool) -> Verdict | None:
    """Why an object with whole identifiers is not analysed; None where it may be."""
    dataset = header.dataset
    if made_by_busmap(dataset):
        return Reason.OWN_RESULT, "A result of busmap itself; it is not analysed again."
    return (
        _wrong_kind(dataset, accept_secondary_capture=accept_secondary_capture)
        or _without_pixels(header)
        or _other_body_part(dataset)
    )


def made_by_busmap(header: Dataset) -> bool:
    """Whether busmap wrote the object: by Manufacturer or by its contributing equipment (PS3.3 C.12.1)."""
    makers = [header, *(header.get("ContributingEquipmentSequence") or ())]
    return any(str(maker.get("Manufacturer") or "").strip().lower() == OWN_MANUFACTURER for maker in makers)


def _wrong_kind(header: Dataset, *, accept_secondary_capture: bool) -> Verdict | None:
    sop_class, modality = str(header.SOPClassUID), str(header.get("Modality") or "").strip().upper()
    name = registered_name(sop_class)
    if _NOT_IMAGES.match(sop_class) or sop_class == "1.2.840.10008.1.3.10":
        return Reason.NOT_AN_IMAGE, f"Not an image to analyse: {name}."
    if sop_class in SECONDARY_CAPTURE_CLASSES:
        if modality not in ("US", "OT", ""):
            return Reason.WRONG_MODALITY, f"A secondary capture of modality {modality}, not of ultrasound."
        if not accept_secondary_capture:
            return (
                Reason.SECONDARY_CAPTURE,
                "A secondary capture, which has no calibration; the setting "
                "analysis.accept_secondary_capture allows it.",
            )
        return None
    if sop_class == _VOLUME_CLASS:
        return Reason.VOLUME, "A 3D ultrasound volume is not analysed; send two-dimensional images."
    if sop_class not in ULTRASOUND_CLASSES:
        return Reason.WRONG_MODALITY, f"Not an ultrasound image: {name}."
    if modality not in ("US", ""):
        return (
            Reason.WRONG_MODALITY,
            f"The object is of an ultrasound class but says modality {modality}; correct it at its source.",
        )
    return None


def _without_pixels(header: Header) -> Verdict | None:
    if not header.has_pixel_data:
        return Reason.NOT_AN_IMAGE, "The object has no pixel data; send the image itself."
    if not header.dataset.get("Rows") or not header.dataset.get("Columns"):
        return (
            Reason.NOT_AN_IMAGE,
            "The object has no Rows or Columns, so no image; send it again.",
        )
    try:
        require_decoder(header.transfer_syntax_uid)
    except UndecodableError as error:
        return error.reason, error.detail
    return None


def _other_body_part(header: Dataset) -> Verdict | None:
    for item in header.get("AnatomicRegionSequence") or ():
        code, meaning = str(item.get("CodeValue") or ""), str(item.get("CodeMeaning") or "")
        if code in _BREAST_CODES or _BREAST.search(meaning):
            return None
        if code:
            return _not_breast(f"Anatomic Region {meaning or code}")
    part = str(header.get("BodyPartExamined") or "").strip()
    if part:
        return None if _BREAST.search(part) else _not_breast(f"Body Part Examined {part}")
    text = " ".join(str(header.get(keyword) or "") for keyword in _DESCRIPTIONS)
    organ = _OTHER_ORGAN.search(text)
    if organ and not _BREAST.search(text):
        return _not_breast(f"the description ({organ.group().lower()})")
    return None


def _not_breast(source: str) -> Verdict:
    return (
        Reason.NOT_BREAST,
        f"Not of the breast according to {source[:80]}; if that is wrong, correct the header and send again.",
    )
