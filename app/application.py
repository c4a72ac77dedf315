"""The graph: load -> select -> find -> assess -> compose -> write. Start reading here.

One MONAI Deploy Application for one study. The one-shot run and the warm worker run this same graph;
models are loaded once a process and handed in. Each operator is a thin shell around the plain function of
the same name in its module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application

from app.settings import Settings
from models.runtime.loaded import Models
from operators.assess_lesions import AssessLesionsOperator
from operators.compose_report import ComposeReportOperator
from operators.find_lesions import FindLesionsOperator
from operators.load_study import LoadStudyOperator
from operators.report.composed import ReportContext
from operators.screen_text import STUDY_SECONDS, ScreenReader, find_reader
from operators.select_frames import SelectFramesOperator
from operators.write_results import WriteResultsOperator


@dataclass(frozen=True)
class Job:
    """One study to analyse: its files, where the result goes, and what the report says of itself.

    `in_order_received` says that the order of `paths` is the order in which the objects came; `warnings` are
    added to those of the study.
    """

    paths: tuple[Path, ...]
    folder: Path
    context: ReportContext
    in_order_received: bool = False
    warnings: Sequence[str] = ()


class BreastUltrasoundApplication(Application):
    """Load, select, find, assess, compose, write: one study from files to a result folder."""

    def __init__(self, job: Job, models: Models, settings: Settings, settings_digest: str) -> None:
        self._job, self._models, self._settings = job, models, settings
        self._digest = settings_digest
        # Without arguments of its own the SDK would read those of the process.
        super().__init__([sys.executable, "busmap"])

    def compose(self) -> None:
        """Join the operators to a graph."""
        job, analysis = self._job, self._settings.analysis
        load = LoadStudyOperator(
            self,
            CountCondition(self, 1),  # a source without a count runs for ever
            name="load",
            paths=job.paths,
            accept_secondary_capture=analysis.accept_secondary_capture,
            in_order_received=job.in_order_received,
            warnings=job.warnings,
        )
        select = SelectFramesOperator(
            self,
            name="select",
            maximum_frames_per_instance=analysis.maximum_frames_per_instance,
            maximum_frames_per_study=analysis.maximum_frames_per_study,
            reader=self._screen_reader(),
        )
        find = FindLesionsOperator(
            self,
            name="find",
            model=self._models.lesion,
            marks=self._models.marks,
            maximum_lesions_per_frame=analysis.maximum_lesions_per_frame,
        )
        assess = AssessLesionsOperator(
            self,
            name="assess",
            models=self._models,
            malignant_prevalence=self._settings.report.malignant_prevalence_percent / 100,
            settings_digest=self._digest,
        )
        compose = ComposeReportOperator(self, name="compose", context=self._context())
        write = WriteResultsOperator(self, name="write", folder=job.folder)
        steps: list[tuple[Any, Any, str]] = [
            (load, select, "study"),
            (select, find, "selection"),
            (find, assess, "detections"),
            (assess, compose, "result"),
            (compose, write, "report"),
        ]
        for source, target, port in steps:
            self.add_flow(source, target, {(port, port)})

    def _screen_reader(self) -> ScreenReader | None:
        """Reads screens for at most a fifth of the time that a study may take."""
        analysis = self._settings.analysis
        if not analysis.read_screen_text:
            return None
        return find_reader(self._models.marks, min(STUDY_SECONDS, analysis.timeout_seconds / 5))

    def _context(self) -> ReportContext:
        report = self._settings.report
        return replace(
            self._job.context,
            sr_sop_class=report.sr_sop_class,
            capture_modality=report.capture_modality,
            summary_capture=report.summary_capture,
            maximum_lesion_captures=report.maximum_lesion_captures,
            malignant_prevalence=report.malignant_prevalence_percent / 100,
        )
