"""The rejection note: tells an archive which objects a newer result replaces (IHE RAD-66, profile IOCM).

A Key Object Selection Document (PS3.3 A.35.4, PS3.16 TID 2010) titled (113001, DCM, "Rejected for Quality
Reasons"): of the titles that IOCM knows, the one after which an archive may still show what is rejected.
The others do not fit a result that was right for the images of its time: patient safety (113037) forbids its
use, worklist entry (113038) and retention (113039) mean something else. CID 7011 has no reason "superseded",
so the optional title modifier is left out and the description says it.

Promises: the same replacement is the same note under the same UID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from operators.report.composed import ComposedObject, ObjectKind
from operators.report.document import complete, zone_of
from operators.report.uids import MANUFACTURER, MODEL_NAME, VERSION, derive_uid

SERIES_NUMBER = 9003
_TYPE_2 = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")
_TYPE_2_DATES = ("StudyDate", "StudyTime", "ReferringPhysicianName")


@dataclass(frozen=True)
class RejectedObject:
    """One object of an earlier result. `is_image`: it is a capture, not a report."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    is_image: bool


def compose_rejection_note(
    report: Dataset, result_number: int, composed_at: datetime, rejected: Sequence[RejectedObject]
) -> ComposedObject:
    """A note that names `rejected`, at least one, as replaced by the result whose report is given.

    Parameters
    ----------
    report : structured report of the new result; patient and study are its.
    composed_at : when the new result was composed, timezone-aware.
    """
    at = composed_at.astimezone(zone_of(report))
    uids = sorted(one.sop_instance_uid for one in rejected)
    serial = str(report.get("DeviceSerialNumber") or VERSION)
    header = _header(report)
    evidence = [_referenced(one, header) for one in sorted(rejected, key=lambda one: one.sop_instance_uid)]
    observer = DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", VERSION, serial),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=serial,
    )
    content = KeyObjectSelection(
        document_title=codes.DCM.RejectedForQualityReasons,
        referenced_objects=evidence,
        observer_device_context=ObserverContext(codes.DCM.Device, observer),
        description=f"Replaced by AI result {result_number} of {at:%Y-%m-%d %H:%M}",
    )
    dataset = KeyObjectSelectionDocument(
        evidence=evidence,
        content=content,
        series_instance_uid=derive_uid("rejection-series", str(report.SOPInstanceUID)),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("rejection-note", str(report.SOPInstanceUID), *uids),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=VERSION,
        device_serial_number=serial,
    )
    complete(dataset, header, at, f"AI breast US rejection note (busmap {VERSION})")
    return ComposedObject(ObjectKind.REJECTION_NOTE, dataset)


def _header(report: Dataset) -> Dataset:
    """Patient and study of the report, with what the library asks for and a source may lack."""
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.StudyInstanceUID = report.StudyInstanceUID
    for keyword in (*_TYPE_2, *_TYPE_2_DATES):
        setattr(header, keyword, report.get(keyword))
    for keyword in ("StudyDescription", "IssuerOfPatientID"):
        if keyword in report:
            header[keyword] = report[keyword]
    return header


def _referenced(one: RejectedObject, header: Dataset) -> Dataset:
    """What the library reads of an object to refer to it."""
    dataset = Dataset()
    dataset.update(header)
    dataset.SOPClassUID, dataset.SOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    dataset.SeriesInstanceUID = one.series_instance_uid
    if one.is_image:
        dataset.Rows = dataset.Columns = 1  # marks an image; its size is not written
    return dataset
