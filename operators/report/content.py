"""The content tree of the report: TID 1500 with one TID 1410 group a lesion and view.

A view is a still, or a key frame of a cine.
Promises: the same lesion carries one tracking UID in all of its groups; a value that cannot be computed is
left out, never guessed; a study without lesion or without a usable frame gets a tree that says so. Every
measurement group has an outline: OHIF 3.13 opens no report with a group that has none, so what concerns the
whole study stands in the Qualitative Evaluations (TID 1500 row 12).
Source: PS3.16 TID 1500, 1410, 1411, 300, 4019, 1004.
"""

from __future__ import annotations

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from operators.findings import Lesion, LesionView, StudyResult
from operators.report import codes as own
from operators.report.composed import ReportContext
from operators.report.document import serial_number
from operators.report.uids import MANUFACTURER, MODEL_NAME, VERSION, derive_uid
from operators.report.wording import (
    INTERVAL,
    NOT_VERIFIED,
    RESEARCH_USE,
    Status,
    aside_lines,
    headline,
    incomplete,
    lesion_text,
    number_text,
    prevalence_text,
    status_of,
)

# highdicom knows the retired ultrasound classes as no image storage: they stand in regions and evidence.
_RETIRED = frozenset({"1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3"})


def measurement_report(result: StudyResult, context: ReportContext, key: str) -> MeasurementReport:
    """The whole tree. `key` is the result's (uids.result_key)."""
    groups = [_lesion_group(lesion, view, result, key) for lesion in result.lesions for view in lesion.views]
    instances = [one.header for one in result.study.instances if one.sop_class_uid not in _RETIRED]
    report = MeasurementReport(
        observation_context=_observer(result),
        procedure_reported=own.ULTRASOUND_OF_BREAST,
        imaging_measurements=groups or [_nothing_measured(key)],
        title=codes.DCM.ImagingMeasurementReport if groups else own.BREAST_REPORT,
        referenced_images=instances or None,
    )
    if not groups:
        del report[0].ContentSequence[-1]
    report[0].ContentSequence.append(_study_evaluations(result, context))
    return report


def _nothing_measured(key: str) -> MeasurementsAndQualitativeEvaluations:
    """A group that never leaves this module: the library builds no report without one."""
    return MeasurementsAndQualitativeEvaluations(TrackingIdentifier(derive_uid("none", key), "none"))


def _observer(result: StudyResult) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", VERSION, serial_number(result)),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=serial_number(result),
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )
    )


def _summary_code(result: StudyResult) -> Code:
    status, partly = status_of(result), incomplete(result)
    if status is Status.NOTHING_USABLE:
        return own.NOT_ANALYSED
    if status is Status.FINDINGS:
        return own.PARTLY_WITH_FINDINGS if partly else own.WITH_FINDINGS
    return own.PARTLY_WITHOUT_FINDINGS if partly else own.WITHOUT_FINDINGS


def _algorithm(result: StudyResult) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=MODEL_NAME,
        version=VERSION,
        parameters=_parameters(result),
        manufacturer=MANUFACTURER,
    )


def _parameters(result: StudyResult) -> list[str]:
    """What decides a result beside the version: models by digest, engine and precision, settings, reader."""
    models = result.models
    return [
        *(f"{one.name} {one.version}, SHA-256 {one.sha256}" for one in models),
        f"engine {models[0].engine}, precision {models[0].precision}",
        f"settings {result.settings_digest}",
        *([f"screen text read by {result.screen_reader}"] if result.screen_reader else []),
    ]


def _lesion_group(
    lesion: Lesion, view: LesionView, result: StudyResult, key: str
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    frame = view.frame
    several = frame.instance.number_of_frames > 1
    side, hour = lesion.coded_site
    closed = np.vstack([view.outline, view.outline[:1]]).astype(np.float64)
    region = ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=np.round(closed, 2),
        source_image=SourceImageForRegion(
            frame.instance.sop_class_uid,
            frame.instance.sop_instance_uid,
            [frame.frame_number] if several else None,
        ),
    )
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derive_uid("lesion", key, str(lesion.number)), identifier=f"L{lesion.number}"
        ),
        referenced_region=region,
        finding_type=own.MASS,
        algorithm_id=_algorithm(result),
        finding_sites=[
            FindingSite(
                own.BREAST,
                laterality=own.SIDES.get(side or ""),
                topographical_modifier=own.clock_face(hour) if hour else None,
            )
        ],
        measurements=_measurements(lesion, view),
        qualitative_evaluations=[*_evaluations(lesion), *_shape(view)],
    )


def _measurements(lesion: Lesion, view: LesionView) -> list[Measurement]:
    """The numbers of a view, probability with its bounds and the axes first: OHIF 3.13 shows five."""
    given = lesion.assessment
    rows: list[tuple[Code, float, Code]] = [
        (own.PROBABILITY, given.probability * 100, own.PERCENT),
        (own.PROBABILITY_LOW, given.probability_low * 100, own.PERCENT),
        (own.PROBABILITY_HIGH, given.probability_high * 100, own.PERCENT),
    ]
    if view.measurement is not None:
        rows += [
            (own.LONG_AXIS, view.measurement.long_axis_mm, own.MILLIMETRE),
            (own.SHORT_AXIS, view.measurement.short_axis_mm, own.MILLIMETRE),
            (own.AREA, view.measurement.area_mm2, own.SQUARE_MILLIMETRE),
        ]
        if view.measurement.depth_mm is not None:
            rows.append((own.DISTANCE_FROM_SKIN, view.measurement.depth_mm, own.MILLIMETRE))
    rows.append((own.CERTAINTY, view.detection_score * 100, own.PERCENT))
    # A tenth is more than the method resolves; DS would carry sixteen digits otherwise.
    return [Measurement(name, round(value, 1), unit) for name, value, unit in rows]


def _evaluations(lesion: Lesion) -> list[QualitativeEvaluation]:
    given = lesion.assessment
    return [
        QualitativeEvaluation(_concept(own.CATEGORY), own.category_value(given)),
        QualitativeEvaluation(
            _concept(own.SENSITIVE), own.YES if given.above_sensitive_threshold else own.NO
        ),
        QualitativeEvaluation(_concept(own.SPECIFIC), own.YES if given.above_specific_threshold else own.NO),
    ]


def _shape(view: LesionView) -> list[QualitativeEvaluation]:
    """Orientation, or that the lesion goes on beyond the picture, where the region is calibrated."""
    size = view.measurement
    if size is None:
        return []
    if size.parallel is None:
        return [QualitativeEvaluation(_concept(own.CUT), own.YES)]
    orientation = own.PARALLEL if size.parallel else own.NOT_PARALLEL
    return [QualitativeEvaluation(_concept(own.ORIENTATION), orientation)]


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme_designator, code.meaning)


def _study_evaluations(result: StudyResult, context: ReportContext) -> ContainerContentItem:
    """What concerns the whole study: what was done, coded, by which algorithm, and all of it in words.

    The words are for readers whose viewer shows text only: summary, lesions, what was set aside, method.
    """
    lines = [
        f"{NOT_VERIFIED}. {RESEARCH_USE}",
        f"{number_text(context)}.",
        headline(result),
        *(lesion_text(lesion) for lesion in result.lesions),
        *([INTERVAL, prevalence_text(context)] if result.lesions else []),
        *(f"Set aside: {line}" for line in aside_lines(result.set_aside)),
        *(f"Note: {warning}" for warning in result.warnings),
    ]
    container = ContainerContentItem(
        own.QUALITATIVE_EVALUATIONS, relationship_type=RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = [
        CodeContentItem(own.SUMMARY, _summary_code(result), RelationshipTypeValues.CONTAINS),
        *(TextContentItem(own.COMMENT, line, RelationshipTypeValues.CONTAINS) for line in lines),
        *(
            TextContentItem(name, text, RelationshipTypeValues.CONTAINS)
            for name, text in _algorithm_rows(result)
        ),
    ]
    return container


def _algorithm_rows(result: StudyResult) -> list[tuple[Code, str]]:
    """The rows of TID 4019 as text, said of the study: a lesion's group holds them as its own."""
    rows = [(codes.DCM.AlgorithmName, MODEL_NAME), (codes.DCM.AlgorithmVersion, VERSION)]
    if result.models:
        rows += [(codes.DCM.AlgorithmParameters, text) for text in _parameters(result)]
    return rows
