"""Analyse a study in this process: what the warm worker's child and the one-shot run both call.

Promises: the models are loaded once; the result folder appears whole or not at all. Raises what the graph
raises: InputError for a study that cannot be analysed, OSError for a folder that cannot be written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from app.application import BreastUltrasoundApplication, Job
from app.model_check import check_models
from app.settings import Settings
from models.runtime.loaded import Models, load_models
from operators.report.composed import ReportContext

# What of the analysis section decides how, not what, is computed.
_WITHOUT_EFFECT = {
    *("engine_threads", "model_folder", "model_keys", "timeout_seconds", "memory_limit_mib", "attempts")
}


def load(settings: Settings) -> Models:
    """Load the models that the settings name, once they are verified.

    Raises
    ------
    ModelError
        A bundle is not the one that was made, cannot be loaded, or cannot be verified.
    """
    check_models(settings)
    return load_models(settings.analysis.model_folder, settings.analysis.engine_threads)


def settings_digest(settings: Settings) -> str:
    """Twelve hex digits that identify every setting which shapes a result."""
    shaping = {
        "analysis": settings.analysis.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
        "report": settings.report.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]


def analyse(
    paths: Sequence[Path],
    output_folder: Path,
    *,
    engines: Models,
    settings: Settings,
    context: ReportContext,
    warnings: Sequence[str] = (),
) -> None:
    """Analyse one study as received by the node, its files in the order in which they came."""
    job = Job(tuple(paths), output_folder, context, in_order_received=True, warnings=tuple(warnings))
    run(job, engines=engines, settings=settings)


def run(job: Job, *, engines: Models, settings: Settings) -> None:
    """Run the graph once."""
    BreastUltrasoundApplication(job, engines, settings, settings_digest(settings)).run()
