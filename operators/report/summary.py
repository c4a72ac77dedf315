"""The result as plain facts (result.json) and as a page (report.html).

Promises: the page needs no network and no other file; everything from outside is escaped; both say what
the report says, in the same words.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import jinja2
from PIL import Image

from operators.findings import Lesion, StudyResult
from operators.report import wording
from operators.report.canvas import RGB
from operators.report.composed import ReportContext

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("operators.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def summarise(result: StudyResult, context: ReportContext) -> dict[str, Any]:
    """The facts of `ComposedReport.summary`: JSON-able."""
    return {
        "status": wording.status_of(result).value,
        "headline": wording.headline(result),
        "disclaimer": f"{wording.NOT_VERIFIED}. {wording.RESEARCH_USE}",
        "study_instance_uid": result.study.study_instance_uid,
        "result_number": context.result_number,
        "replaces": context.predecessor.result_number if context.predecessor else None,
        "composed_at": context.composed_at.isoformat(),
        "probability": result.probability,
        "malignant_prevalence": context.malignant_prevalence,
        "lesions": [_lesion(lesion) for lesion in result.lesions],
        "frames_analysed": len(result.frames),
        "set_aside": [
            {
                "reason": one.reason.value,
                "detail": one.detail,
                "sop_instance_uid": one.sop_instance_uid,
                "frame_number": one.frame_number,
                "file_name": _printable(one.file_name),
            }
            for one in result.set_aside
        ],
        "models": [
            {
                "name": one.name,
                "version": one.version,
                "sha256": one.sha256,
                "engine": one.engine,
                "precision": one.precision,
            }
            for one in result.models
        ],
        "remarks": [f"Set aside: {line}" for line in wording.aside_lines(result.set_aside)],
        "screen_reader": result.screen_reader,
        "settings_digest": result.settings_digest,
        "warnings": list(result.warnings),
    }


def _lesion(lesion: Lesion) -> dict[str, Any]:
    size = wording.largest(lesion)
    given = lesion.assessment
    side_source, clock_source = lesion.site_sources
    return {
        "number": lesion.number,
        "laterality": lesion.laterality,
        "laterality_source": side_source if lesion.laterality else None,
        "clock_hour": lesion.clock_hour,
        "clock_hour_source": clock_source if lesion.clock_hour else None,
        "probability": given.probability,
        "probability_low": given.probability_low,
        "probability_high": given.probability_high,
        "category": given.category,
        "category_text": wording.category_text(given),
        "deciding_ceiling": given.deciding_ceiling,
        "above_sensitive_threshold": given.above_sensitive_threshold,
        "above_specific_threshold": given.above_specific_threshold,
        "long_axis_mm": round(size.long_axis_mm, 1) if size else None,
        "short_axis_mm": round(size.short_axis_mm, 1) if size else None,
        "area_mm2": round(size.area_mm2, 1) if size else None,
        "depth_mm": round(size.depth_mm, 1) if size and size.depth_mm is not None else None,
        "parallel": size.parallel if size else None,
        "cut_by_the_edge": size.cut if size else None,
        "frames_seen": sum(len(track.frame_numbers) for track in lesion.tracks),
        "views": [
            {
                "sop_instance_uid": view.frame.instance.sop_instance_uid,
                "frame_number": view.frame.frame_number,
                "malignancy_logit": view.malignancy_logit,
                "outline": [[round(float(x), 2), round(float(y), 2)] for x, y in view.outline],
            }
            for view in lesion.views
        ],
    }


def render_page(result: StudyResult, context: ReportContext, pictures: Sequence[RGB]) -> str:
    """The report as one HTML page with its captures inside."""
    return _TEMPLATES.get_template("report.html.j2").render(
        headline=wording.headline(result),
        study=result.study.study_instance_uid,
        accession=str(result.study.header.get("AccessionNumber") or "none"),
        study_date=str(result.study.header.get("StudyDate") or "not stated"),
        not_verified=wording.NOT_VERIFIED,
        research_use=wording.RESEARCH_USE,
        category_name=wording.CATEGORY_NAME,
        lesions=[
            {
                "name": f"L{lesion.number}",
                "side": wording.site_text(lesion),
                "size": wording.measured_text(wording.largest(lesion)),
                "probability": wording.probability_text(lesion.assessment),
                "category": wording.category_text(lesion.assessment),
                "threshold": wording.threshold_text(lesion.assessment),
            }
            for lesion in result.lesions
        ],
        set_aside=wording.aside_lines(result.set_aside),
        warnings=result.warnings,
        pictures=[_data_uri(picture) for picture in pictures],
        number=wording.number_text(context),
        interval=wording.INTERVAL,
        prevalence=wording.prevalence_text(context),
        models=wording.models_text(result.models),
    )


def _data_uri(picture: RGB) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _printable(file_name: str | None) -> str | None:
    """A file name as valid Unicode: bytes that are none (PEP 383) become escapes."""
    return None if file_name is None else file_name.encode("utf-8", "backslashreplace").decode()
