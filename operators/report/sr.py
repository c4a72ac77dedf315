"""The structured report as a DICOM object: Comprehensive 3D SR or Comprehensive SR.

Promises: COMPLETE, UNVERIFIED and PRELIMINARY (a person reads it); names the result it replaces; lists all
images of the study as evidence; dates are fixed by the context. Source: PS3.3 A.35.3, A.35.13, C.17.
"""

from __future__ import annotations

from highdicom.sr import Comprehensive3DSR, ComprehensiveSR
from pydicom.dataset import Dataset

from operators.findings import StudyResult
from operators.report.codes import scheme_identification
from operators.report.composed import ComposedObject, ObjectKind, Predecessor, ReportContext
from operators.report.content import measurement_report
from operators.report.document import (
    contributing_equipment,
    evidence_of,
    finish,
    reference_item,
    serial_number,
    without_made_evidence,
)
from operators.report.uids import MANUFACTURER, MODEL_NAME, VERSION, derive_uid

SERIES_NUMBER = 9001
_CLASSES = {"comprehensive-3d": Comprehensive3DSR, "comprehensive": ComprehensiveSR}


def compose_sr(result: StudyResult, context: ReportContext, key: str) -> ComposedObject:
    """The report of a study. `key` is the result's (uids.result_key)."""
    dataset = _CLASSES[context.sr_sop_class](
        evidence=evidence_of(result),
        content=measurement_report(result, context, key),
        series_instance_uid=derive_uid("sr-series", key),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("sr", context.sr_sop_class, key),
        instance_number=context.result_number,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        manufacturer_model_name=MODEL_NAME,
        software_versions=VERSION,
        device_serial_number=serial_number(result),
        contributing_equipment=[contributing_equipment(context, result)],
    )
    dataset.CodingSchemeIdentificationSequence = [scheme_identification()]
    if context.predecessor is not None:
        dataset.PredecessorDocumentsSequence = [
            _predecessor(result.study.study_instance_uid, context.predecessor)
        ]
    without_made_evidence(dataset)
    finish(dataset, result, context, f"AI breast US report (busmap {VERSION})")
    return ComposedObject(ObjectKind.STRUCTURED_REPORT, dataset)


def _predecessor(study_instance_uid: str, predecessor: Predecessor) -> Dataset:
    """The item of PS3.3 C.17.2 that names the document replaced."""
    series, study = Dataset(), Dataset()
    series.SeriesInstanceUID = predecessor.series_instance_uid
    series.ReferencedSOPSequence = [reference_item(predecessor.sop_class_uid, predecessor.sop_instance_uid)]
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = [series]
    return study
