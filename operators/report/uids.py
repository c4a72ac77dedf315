"""Who made a result, and the UIDs it carries.

Promises: UIDs are derived from what the result depends on (PS3.5 B.2, 2.25 and a UUID), so the same study
with the same models and settings gives the same objects, and a repeated delivery leaves one in the PACS.
"""

from __future__ import annotations

import json
import uuid
from importlib.metadata import version

from operators.eligibility import OWN_MANUFACTURER as MANUFACTURER
from operators.findings import StudyResult
from operators.report.composed import ReportContext

MODEL_NAME = "busmap"
VERSION = version("busmap")
PRIVATE_SCHEME = "99BUSMAP"
_NAMESPACE = uuid.UUID("b2f2c9a4-6a0e-5b1d-9c53-0d8a3f6f7e11")

__all__ = ["MANUFACTURER", "MODEL_NAME", "PRIVATE_SCHEME", "VERSION", "derive_uid", "result_key"]


def derive_uid(*parts: str) -> str:
    """A UID that depends on the parts and on nothing else."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"


def result_key(result: StudyResult, context: ReportContext) -> str:
    """Everything a result depends on, as one text; JSON, so that no two results share one.

    Input bytes, what was set aside, side and clock position of each frame with their sources and the program
    that read them, models, engine, settings, warnings, number, the result replaced.
    """
    study = result.study
    inputs = sorted(f"{one.sop_instance_uid}={one.sha256}" for one in study.instances)
    aside = sorted(f"{one.sop_instance_uid}/{one.frame_number}={one.reason}" for one in result.set_aside)
    models = [f"{one.name}={one.version}/{one.sha256}/{one.engine}/{one.precision}" for one in result.models]
    replaced = context.predecessor.sop_instance_uid if context.predecessor else ""
    made_by = (VERSION, models, result.settings_digest, result.screen_reader)
    made_of = (study.study_instance_uid, inputs, aside, _sites(result), result.warnings)
    return json.dumps((*made_of, *made_by, context.result_number, replaced))


def _sites(result: StudyResult) -> list[tuple[str, int, int, int, str, int, str, str]]:
    """Where each frame was taken, as far as known, and who says so."""
    frames = {*result.frames, *(view.frame for lesion in result.lesions for view in lesion.views)}
    return sorted(
        {
            (
                *frame.key,
                frame.laterality or "",
                frame.clock_hour or 0,
                frame.laterality_source or "",
                frame.clock_source or "",
            )
            for frame in frames
        }
    )
