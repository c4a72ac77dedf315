"""What a result says in words, the same in report, capture and page.

Promises: a probability never stands without its interval; a size only where the image is calibrated;
nothing found, nothing usable and everything set aside are said, with the reason. No patient data.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from operators.findings import Assessment, Lesion, LesionView, Measurement, ModelIdentity, StudyResult
from operators.report.composed import ReportContext
from operators.report.uids import VERSION
from operators.study import Reason, SetAside

NOT_VERIFIED = "AI result, not verified"
INTERVAL = "In brackets: lower and upper probability (Venn-Abers)"
RESEARCH_USE = "Research use. Not a cleared device, not for diagnosis."
CATEGORY_NAME = "BI-RADS-aligned category (AI)"
TOO_WIDE = "the interval is too wide"
TOO_FEW = "too few calibration patients at this prevalence"
SIDES = {"L": "left breast", "R": "right breast", None: "side not stated"}
# What is set aside for its kind and says nothing of the quality of a study: not worth a warning.
_EXPECTED = frozenset({Reason.NOT_AN_IMAGE, Reason.OWN_RESULT, Reason.FRAME_LIMIT})
_SETTING = r"\b(?:analysis|report|gateway|worker)\.[a-z_]+"
_SETTING_CLAUSE = re.compile(rf"; [^;]*{_SETTING}[^;]*$")
_SETTING_NAME = re.compile(rf"(?<=setting) {_SETTING}")


class Status(StrEnum):
    """What came of a study."""

    FINDINGS = "findings"
    NO_FINDINGS = "no-findings"
    NOTHING_USABLE = "nothing-usable"


def status_of(result: StudyResult) -> Status:
    """Whether lesions were found, none was, or no frame could be analysed."""
    if result.lesions:
        return Status.FINDINGS
    return Status.NO_FINDINGS if result.frames else Status.NOTHING_USABLE


def incomplete(result: StudyResult) -> bool:
    """Whether something that may have shown a lesion was set aside."""
    return any(one.reason not in _EXPECTED for one in result.set_aside)


def headline(result: StudyResult) -> str:
    """One sentence for the top of report and capture."""
    status = status_of(result)
    if status is Status.NOTHING_USABLE:
        return "No usable B-mode frame: nothing was analysed."
    images = len({frame.instance.sop_instance_uid for frame in result.frames})
    frames = len(result.frames)
    held = len(result.study.instances)
    of = f"{images} image{'s' * (images != 1)}" if images == held else f"{images} of {held} images"
    looked = f"{frames} frame{'s' * (frames != 1)} of {of} looked at"
    if status is Status.NO_FINDINGS:
        return f"No lesion found; {looked}. This does not exclude one."
    count = len(result.lesions)
    return f"{count} lesion{'s' * (count != 1)} found; {looked}."


def site_text(lesion: Lesion) -> str:
    """Side and clock position, as far as they are stated, each with its source."""
    side_source, hour_source = lesion.site_sources
    side = SIDES[lesion.laterality]
    if lesion.laterality is None:
        side_source = None
    if lesion.clock_hour is None:
        return side + _by(side_source)
    hour = f"{lesion.clock_hour} o'clock"
    if side_source == hour_source:
        return f"{side}, {hour}" + _by(side_source)
    return f"{side}{_by(side_source)}, {hour}{_by(hour_source)}"


def _by(source: str | None) -> str:
    return f" (by {source})" if source else ""


def percent(probability: float) -> str:
    """A probability in percent, without claiming certainty at either end."""
    value = probability * 100
    if value < 1:
        return "<1%"
    return ">99%" if value > 99 else f"{value:.0f}%"


def probability_text(assessment: Assessment) -> str:
    """Probability with its interval: `62% (48% to 71%)`."""
    low, high = percent(assessment.probability_low), percent(assessment.probability_high)
    return f"{percent(assessment.probability)} ({low} to {high})"


def size_text(measurement: Measurement | None) -> str:
    """Long and short axis in millimetres, or why there are none."""
    if measurement is None:
        return "no size: image not calibrated"
    axes = f"{measurement.long_axis_mm:.1f} x {measurement.short_axis_mm:.1f} mm"
    return f"at least {axes}: reaches the edge of the picture" if measurement.cut else axes


def shape_text(measurement: Measurement | None) -> str:
    """Area, depth and orientation as far as they were measured; empty without calibration."""
    if measurement is None:
        return ""
    parts = [f"area {'at least ' * measurement.cut}{measurement.area_mm2:.0f} mm2"]
    if measurement.depth_mm is not None:
        parts.append(f"{measurement.depth_mm:.1f} mm below the skin")
    if measurement.parallel is not None:
        parts.append("wider than tall (parallel)" if measurement.parallel else "not parallel")
    return ", ".join(parts)


def sizes_text(lesion: Lesion) -> str:
    """The size in the picture shown, and the largest over all pictures where that is another."""
    here, most = lesion.key_view.measurement, largest(lesion)
    if here is None and most is not None:
        return f"not calibrated here; largest elsewhere {size_text(most)}"
    if most is None or size_text(here) == size_text(most):
        return size_text(here)
    return f"{size_text(here)} in this picture; largest {size_text(most)}"


def largest(lesion: Lesion) -> Measurement | None:
    """The measurement with the longest axis over all views; None where no view is calibrated."""
    sizes = [view.measurement for view in lesion.views if view.measurement is not None]
    return max(sizes, key=lambda size: size.long_axis_mm, default=None)


def category_text(assessment: Assessment) -> str:
    """The category, or that there is none; and why, where the data and not the interval decide it.

    The limit of the data is rounded up: rounded down, it could seem to lie within the category below.
    """
    given, ceiling = assessment.category, assessment.deciding_ceiling
    if given is None:
        return f"none: {TOO_WIDE if ceiling is None else TOO_FEW}"
    return given if ceiling is None else f"{given}: the data allow for up to {math.ceil(ceiling * 100)}%"


def threshold_text(assessment: Assessment) -> str:
    """On which side of the two frozen thresholds the lesion lies."""
    reached = [
        name
        for name, above in (
            (
                "the sensitive threshold (95% of malignant cases reach it)",
                assessment.above_sensitive_threshold,
            ),
            ("the specific one (10% of benign cases reach it)", assessment.above_specific_threshold),
        )
        if above
    ]
    return (
        "reaches " + " and ".join(reached)
        if reached
        else "below both thresholds (95% sensitivity, 90% specificity)"
    )


def lesion_text(lesion: Lesion) -> str:
    """One lesion in one line."""
    views = len({view.frame.instance.sop_instance_uid for view in lesion.views})
    return (
        f"L{lesion.number}, {site_text(lesion)}, on {views} image{'s' * (views != 1)}: "
        f"probability of malignancy {probability_text(lesion.assessment)}; {CATEGORY_NAME} "
        f"{category_text(lesion.assessment)}; {measured_text(largest(lesion))}."
    )


def measured_text(measurement: Measurement | None) -> str:
    """Everything measured, in one phrase."""
    return ", ".join(part for part in (size_text(measurement), shape_text(measurement)) if part)


def aside_lines(set_aside: Sequence[SetAside]) -> list[str]:
    """One line for each different reason, with how many objects or frames it concerns, most first."""
    counted = Counter((one.reason, one.detail) for one in set_aside)
    return [
        f"{count} x {detail}" if count > 1 else detail
        for (_, detail), count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    ]


def without_settings(line: str) -> str:
    """A remark without the names of settings, for a picture; status and result.json keep them."""
    return _SETTING_NAME.sub("", _SETTING_CLAUSE.sub(".", line))


def prevalence_text(context: ReportContext) -> str:
    """For which share of malignant lesions a probability holds, and where it was learned."""
    return (
        f"Probabilities hold for a share of malignant lesions of {context.malignant_prevalence * 100:g}% "
        "(setting); learned from biopsied lesions, a third of them malignant."
    )


def models_text(models: Sequence[ModelIdentity]) -> str:
    """Name, version, digest and engine of the models."""
    named = ", ".join(f"{one.name} {one.version} ({one.sha256[:8]})" for one in models)
    engine = f" on {models[0].engine} {models[0].precision}" if models else ""
    return f"busmap {VERSION}: {named}{engine}"


def number_text(context: ReportContext) -> str:
    """Which result of the study this is, and what it replaces: `replaces result 1 of 14:02`.

    Both times in the zone of `composed_at`; the earlier one with its date where that is another day.
    """
    at = context.composed_at
    text = f"Result {context.result_number}, {at:%Y-%m-%d %H:%M}"
    if context.predecessor is None:
        return text
    then = context.predecessor.composed_at.astimezone(at.tzinfo)
    of = f"{then:%H:%M}" if then.date() == at.date() else f"{then:%Y-%m-%d %H:%M}"
    return f"{text}, replaces result {context.predecessor.result_number} of {of}"


def covered_lines(views: Sequence[LesionView]) -> list[str]:
    """What the dotted patches are, where there are any; that all marks were found is not claimed."""
    if not any(view.shown.marks.blocks.any() for view in views):
        return []
    return ["Dotted: callipers and text that were found are covered here; the original has them"]


def source_text(lesion: Lesion) -> str:
    """Where the picture of a lesion comes from: series, image and frame number."""
    frame = lesion.key_view.frame
    header = frame.instance.header
    series, image = (header.get(keyword) for keyword in ("SeriesNumber", "InstanceNumber"))
    parts = [f"series {series}"] if series not in (None, "") else []
    parts += [f"image {image}"] if image not in (None, "") else []
    if frame.instance.number_of_frames > 1:
        seen = sum(len(track.frame_numbers) for track in lesion.tracks if lesion.key_view in track.views)
        parts.append(f"frame {frame.frame_number} (seen on {seen})")
    return "Source: " + (", ".join(parts) or "the only image")
