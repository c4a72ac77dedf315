"""What report and captures have in common: equipment, dates, request, references to a predecessor.

Promises: patient and study attributes are copied from the source as they are; dates are those of the
context, so that the same result composed twice is the same bytes.
"""

from __future__ import annotations

from datetime import datetime

import highdicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian

from operators.findings import StudyResult
from operators.report.codes import PROCESSING_EQUIPMENT
from operators.report.composed import ReportContext
from operators.report.uids import MANUFACTURER, MODEL_NAME, VERSION

_COPIED = ("StudyDescription", "ReferringPhysicianName", "AccessionNumber", "StudyID", "IssuerOfPatientID")


def serial_number(result: StudyResult) -> str:
    """What stands for a serial number: the digests of the models that ran."""
    return "-".join(model.sha256[:12] for model in result.models) or VERSION


def evidence_of(result: StudyResult) -> list[Dataset]:
    """The headers of all images of the study; of one object where there is no image to analyse."""
    return [one.header for one in result.study.instances] or [result.study.header]


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


def finish(dataset: Dataset, result: StudyResult, context: ReportContext, description: str) -> Dataset:
    """Fix dates and what the library leaves open, and give the file meta information; returns `dataset`."""
    at: datetime = context.composed_at
    dataset.TimezoneOffsetFromUTC = f"{at:%z}"
    for prefix in ("Content", "InstanceCreation", "Series"):
        setattr(dataset, f"{prefix}Date", f"{at:%Y%m%d}")
        setattr(dataset, f"{prefix}Time", f"{at:%H%M%S}")
    if "DateOfSecondaryCapture" in dataset:
        dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = f"{at:%Y%m%d}", f"{at:%H%M%S}"
    for equipment in dataset.get("ContributingEquipmentSequence") or ():  # the library adds itself, dated now
        equipment.ContributionDateTime = f"{at:%Y%m%d%H%M%S}"
    for keyword in _COPIED:
        value = result.study.header.get(keyword)
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
