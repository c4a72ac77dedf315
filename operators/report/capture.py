"""Secondary captures: what the radiologist sees in any viewer. One summary, and one a lesion.

Promises: the picture of a lesion is its source region at original scale, its pixels untouched under the
outline except where marks were found: callipers and text are covered, for they may name the patient (the
original stays in the archive); a dotted line goes round what is made up, and the panel says so. Text stands
beside the anatomy, never on it; every capture says what it is and that it is not verified. Source: PS3.3
A.8.1; layout as radiologists expect it of AI results.
"""

from __future__ import annotations

import highdicom
import numpy as np
from pydicom.dataset import Dataset

from operators.findings import CATEGORIES, Lesion, LesionView, StudyResult
from operators.report import wording
from operators.report.canvas import LARGE, RGB, Canvas, dotted, height_of, shrunk
from operators.report.composed import ComposedObject, ObjectKind, ReportContext
from operators.report.document import contributing_equipment, finish, reference_item, serial_number
from operators.report.uids import MANUFACTURER, MODEL_NAME, VERSION, derive_uid
from operators.study import Instance

SERIES_NUMBER = 9002
_PANEL_WIDTH, _MARGIN = 360, 16
_TOP = 64  # viewers write patient, series and image over the corners
_SUMMARY_SIZE = (1024, 768)
_THUMBNAIL, _THUMBNAILS = (310, 240), 3
_BOTTOM = 56  # as at the top
_LESION_LINES, _REMARKS = 6, 10  # the report has all


def compose_captures(result: StudyResult, context: ReportContext, key: str) -> list[ComposedObject]:
    """The captures of a study: the summary first. `key` is the result's (uids.result_key)."""
    captures = []
    if context.summary_capture == "always" or result.lesions:
        picture = draw_summary(result, context)
        instances = list(
            {frame.instance.sop_instance_uid: frame.instance for frame in result.frames}.values()
        )
        captures.append(
            _object(ObjectKind.SUMMARY_CAPTURE, picture, result, context, key, 1, instances, None)
        )
    for lesion in result.lesions[: context.maximum_lesion_captures]:
        picture = draw_lesion(lesion, result, context)
        sources = [lesion.key_view.frame.instance]
        number = lesion.number + 1
        captures.append(
            _object(ObjectKind.LESION_CAPTURE, picture, result, context, key, number, sources, lesion)
        )
    return captures


def draw_lesion(lesion: Lesion, result: StudyResult, context: ReportContext) -> RGB:
    """Picture of one lesion on its source region, as high as region and text need: uint8 (h, w, 3)."""
    view = lesion.key_view
    region = view.frame.region
    canvas = Canvas(region.columns + _PANEL_WIDTH, region.rows)
    canvas.paste_grey(dotted(view.shown.grey, view.shown.marks.blocks), 0, 0)
    corner = np.array([region.min_x0, region.min_y0], np.float32)
    canvas.outline(view.outline - corner)
    bottom = _panel(canvas, lesion, result, context, region.columns + _MARGIN)
    canvas.reach(bottom + _MARGIN)
    return canvas.pixels


def _panel(canvas: Canvas, lesion: Lesion, result: StudyResult, context: ReportContext, x: int) -> int:
    """Write the words of a lesion from the top; returns where they end."""
    given, width, y = lesion.assessment, _PANEL_WIDTH - 2 * _MARGIN, _TOP
    y = canvas.text(wording.NOT_VERIFIED, x, y, width, size=LARGE)
    y = canvas.text(wording.RESEARCH_USE, x, y, width) + 10
    y = canvas.text(f"L{lesion.number}: {wording.site_text(lesion)}", x, y, width, size=LARGE)
    y = canvas.text(wording.sizes_text(lesion), x, y, width)
    y = canvas.text(wording.shape_text(lesion.key_view.measurement), x, y, width) + 10
    y = canvas.text(f"Probability of malignancy {wording.probability_text(given)}", x, y, width)
    y = canvas.text(wording.INTERVAL, x, y, width, quiet=True) + 14
    values = (given.probability_low, given.probability, given.probability_high)
    marked = CATEGORIES.index(given.category) if given.category else None
    y = canvas.scale(CATEGORIES, values, marked, (x, y))
    y = canvas.text(f"{wording.CATEGORY_NAME} {wording.category_text(given)}", x, y, width)
    y = canvas.text(wording.threshold_text(given), x, y, width, quiet=True) + 10
    for line in (
        wording.source_text(lesion),
        wording.prevalence_text(context),
        *wording.covered_lines([lesion.key_view]),
        wording.number_text(context),
        wording.models_text(result.models),
    ):
        y = canvas.text(line, x, y, width, quiet=True)
    return y


def draw_summary(result: StudyResult, context: ReportContext) -> RGB:
    """Overview of the study on one picture, uint8 (h, 1024, 3), h at least 768 and as high as it needs."""
    return lay_out_summary(result, context).pixels


def lay_out_summary(result: StudyResult, context: ReportContext) -> Canvas:
    """The overview with the boxes of all that stands on it; its foot lies below everything else."""
    canvas = Canvas(*_SUMMARY_SIZE)
    x, y, width = 24, _TOP, _SUMMARY_SIZE[0] - 48
    y = canvas.text(f"{wording.NOT_VERIFIED}. Breast ultrasound", x, y, width, size=LARGE)
    y = canvas.text(wording.RESEARCH_USE, x, y, width) + 10
    y = canvas.text(wording.headline(result), x, y, width, size=LARGE)
    for line in _shortened([wording.lesion_text(one) for one in result.lesions], _LESION_LINES, "lesions"):
        y = canvas.text(line, x, y, width)
    y += 10
    if result.lesions:
        y = _thumbnails(canvas, result, x, y) + 12
    for line in _shortened(_remarks(result), _REMARKS, "remarks"):
        y = canvas.text(line, x, y, width, quiet=True)
    foot = [wording.INTERVAL] if result.lesions else []
    foot += [wording.number_text(context), wording.models_text(result.models)]
    y = max(y + 10, _SUMMARY_SIZE[1] - _BOTTOM - sum(height_of(line, width) for line in foot))
    for line in foot:
        y = canvas.text(line, x, y, width, quiet=True)
    canvas.reach(y + _BOTTOM)
    return canvas


def _shortened(lines: list[str], most: int, what: str) -> list[str]:
    """At most `most` lines, and how many more there are."""
    rest = len(lines) - most
    return lines[:most] + ([f"and {rest} more {what} in the report"] if rest > 0 else [])


def _remarks(result: StudyResult) -> list[str]:
    return [
        *wording.covered_lines([view for _, view in _pictured(result)]),
        *(f"Note: {wording.without_settings(warning)}" for warning in result.warnings),
        *(f"Set aside: {wording.without_settings(line)}" for line in wording.aside_lines(result.set_aside)),
    ]


def _thumbnails(canvas: Canvas, result: StudyResult, x: int, y: int) -> int:
    """The best view of each lesion, then the others' as far as there is room; returns where they end.

    The lesion's label stands above its picture, as no text stands on anatomy.
    """
    top = y
    for lesion, view in _pictured(result):
        top = canvas.text(f"L{lesion.number}", x, y, _THUMBNAIL[0])
        small, scale = shrunk(view.shown.grey, *_THUMBNAIL)
        canvas.paste_grey(dotted(small, view.shown.marks.blocks), x, top)
        corner = np.array([view.frame.region.min_x0, view.frame.region.min_y0], np.float32)
        canvas.outline((view.outline - corner) * scale + np.array([x, top], np.float32))
        x += _THUMBNAIL[0] + 16
    return top + _THUMBNAIL[1]


def _pictured(result: StudyResult) -> list[tuple[Lesion, LesionView]]:
    """The views that the summary shows."""
    pictured = [(lesion, lesion.key_view) for lesion in result.lesions]
    pictured += [
        (lesion, view)
        for lesion in result.lesions
        for view in lesion.image_views
        if view is not lesion.key_view
    ]
    return pictured[:_THUMBNAILS]


def _object(
    kind: ObjectKind,
    picture: RGB,
    result: StudyResult,
    context: ReportContext,
    key: str,
    number: int,
    sources: list[Instance],
    lesion: Lesion | None,
) -> ComposedObject:
    """A picture as Secondary Capture Image, with the image it was made from."""
    dataset: Dataset = highdicom.sc.SCImage.from_ref_dataset(
        ref_dataset=result.study.header,
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        series_instance_uid=derive_uid("capture-series", key),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("capture", context.capture_modality, str(number), key),
        instance_number=number,
        manufacturer=MANUFACTURER,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        manufacturer_model_name=MODEL_NAME,
        software_versions=VERSION,
        device_serial_number=serial_number(result),
        contributing_equipment=[contributing_equipment(context, result)],
    )
    dataset.Modality = context.capture_modality
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = None  # a picture with a text panel has none
    dataset.BodyPartExamined = "BREAST"
    dataset.Laterality = (lesion.coded_site[0] if lesion else None) or ""
    shown = [lesion.key_view] if lesion else [view for _, view in _pictured(result)]
    dataset.BurnedInAnnotation = "NO" if all(map(_surely_no_text, shown)) else "YES"
    dataset.DerivationDescription = "Drawn by busmap: outlines and text of an AI result that is not verified"
    if sources:
        dataset.SourceImageSequence = [
            reference_item(one.sop_class_uid, one.sop_instance_uid) for one in sources
        ]
    if any(str(one.header.get("LossyImageCompression") or "") == "01" for one in sources):
        dataset.LossyImageCompression = "01"
    finish(dataset, result, context, f"AI breast US captures (busmap {VERSION})")
    return ComposedObject(kind, dataset)


def _surely_no_text(view: LesionView) -> bool:
    """Whether the scanner itself gave the region shown and no words were found in it.

    Its text strips then lie outside. Covered words count as burnt in (PS3.3 C.7.6.1), for where some were
    found others may have been missed.
    """
    return view.frame.region.stated and not view.shown.marks.text
