"""What report and captures have in common: equipment, dates, request, references to a predecessor.

Promises: patient and study attributes are copied from the source as they are; dates are those of the
context, so that the same result composed twice is the same bytes.
"""

from __future__ import annotations

from copy import copy
from datetime import datetime, timedelta, timezone

import highdicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian

from operators.eligibility import identity_fault
from operators.findings import StudyResult
from operators.report.codes import PROCESSING_EQUIPMENT
from operators.report.composed import ReportContext
from operators.report.uids import MANUFACTURER, MODEL_NAME, VERSION, derive_uid

_KNOWN_CLASSES = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1")
_MADE_UID = derive_uid("evidence that the library needs and no document keeps")
COPIED = ("StudyDescription", "ReferringPhysicianName", "AccessionNumber", "StudyID", "IssuerOfPatientID")


def serial_number(result: StudyResult) -> str:
    """What stands for a serial number: the digests of the models that ran."""
    return "-".join(model.sha256[:12] for model in result.models) or VERSION


def evidence_of(result: StudyResult) -> list[Dataset]:
    """The headers of all images of the study; of one object where there is no image to analyse.

    The library takes patient and study from the first one, and knows neither the retired ultrasound classes
    nor objects without UIDs: a made one then stands before them, which `without_made_evidence` takes out of
    the document again.
    """
    evidence = [one.header for one in result.study.instances]
    if not evidence and not identity_fault(result.study.header):
        evidence = [result.study.header]
    if evidence and evidence[0].SOPClassUID in _KNOWN_CLASSES:
        return evidence
    made = copy(result.study.header)
    made.SOPClassUID, made.SOPInstanceUID = _KNOWN_CLASSES[0], _MADE_UID
    made.SeriesInstanceUID = _MADE_UID
    return [made, *evidence]


def without_made_evidence(dataset: Dataset) -> Dataset:
    """Drop what `evidence_of` made; a document that refers to nothing has no such sequence (PS3.3 C.17.2)."""
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in dataset.get(keyword) or ():
            study.ReferencedSeriesSequence = [
                one for one in study.ReferencedSeriesSequence if one.SeriesInstanceUID != _MADE_UID
            ]
        if keyword in dataset:
            studies = [study for study in dataset[keyword].value if study.ReferencedSeriesSequence]
            delattr(dataset, keyword)
            if studies:
                setattr(dataset, keyword, studies)
    return dataset


def contributing_equipment(context: ReportContext, result: StudyResult) -> highdicom.ContributingEquipment:
    """The equipment that processed the images, busmap (PS3.3 C.12.1.1.5)."""
    return highdicom.ContributingEquipment(
        MANUFACTURER,
        PROCESSING_EQUIPMENT,
        manufacturer_model_name=MODEL_NAME,
        software_versions=VERSION,
        device_serial_number=serial_number(result),
        contribution_datetime=context.composed_at.replace(tzinfo=None, microsecond=0),
    )


def zone_of(header: Dataset) -> timezone | None:
    """The zone of Timezone Offset From UTC (PS3.3 C.12.1.1.8), None where the source states none."""
    try:
        return timezone(
            datetime.strptime(str(header.get("TimezoneOffsetFromUTC")), "%z").utcoffset() or timedelta(0)
        )
    except ValueError:
        return None


def finish(dataset: Dataset, result: StudyResult, context: ReportContext, description: str) -> Dataset:
    """Complete an object of a result; returns `dataset`."""
    return complete(dataset, result.study.header, context.composed_at, description)


def complete(dataset: Dataset, header: Dataset, at: datetime, description: str) -> Dataset:
    """Fix dates and what the library leaves open, and give the file meta information; returns `dataset`.

    Parameters
    ----------
    header : where patient and study attributes are copied from.
    at : when the object was composed, in the zone that it states.
    """
    dataset.TimezoneOffsetFromUTC = f"{at:%z}"
    for prefix in ("Content", "InstanceCreation", "Series"):
        setattr(dataset, f"{prefix}Date", f"{at:%Y%m%d}")
        setattr(dataset, f"{prefix}Time", f"{at:%H%M%S}")
    if "DateOfSecondaryCapture" in dataset:
        dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = f"{at:%Y%m%d}", f"{at:%H%M%S}"
    for equipment in dataset.get("ContributingEquipmentSequence") or ():  # the library adds itself, dated now
        equipment.ContributionDateTime = f"{at:%Y%m%d%H%M%S}"
    for keyword in COPIED:
        value = header.get(keyword)
        if value not in (None, ""):
            setattr(dataset, keyword, value)
    dataset.SeriesDescription = description
    dataset.SpecificCharacterSet = "ISO_IR 192"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = f"BUSMAP {VERSION}"[:16]
    dataset.file_meta = meta
    return dataset


def reference_item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """An item of a sequence of referenced instances (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item
