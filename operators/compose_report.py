"""Compose all objects of a result: structured report, captures, facts, page. Nothing is written here.

Promises: the report comes first, because it is the result of record; the same result and context compose
the same objects.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec, OutputContext

from operators.findings import StudyResult
from operators.read_header import quiet_pydicom
from operators.report.capture import compose_captures
from operators.report.composed import ComposedReport, ReportContext
from operators.report.document import zone_of
from operators.report.sr import compose_sr
from operators.report.summary import render_page, summarise
from operators.report.uids import result_key


def compose_report(result: StudyResult, context: ReportContext) -> ComposedReport:
    """Compose the result of a study, its times in the zone of the images, or of this machine."""
    context = replace(context, composed_at=context.composed_at.astimezone(zone_of(result.study.header)))
    key = result_key(result, context)
    with quiet_pydicom():  # the library remarks on names, quoting them
        captures = compose_captures(result, context, key)
        report = compose_sr(result, context, key)
    pictures = [capture.dataset.pixel_array for capture in captures]
    return ComposedReport(
        objects=(report, *captures),
        summary=summarise(result, context),
        page=render_page(result, context, pictures),
    )


class ComposeReportOperator(Operator):
    """Graph step: takes the study's result on port `result`, emits its objects on port `report`."""

    def __init__(self, fragment: Any, *args: Any, context: ReportContext, **kwargs: Any) -> None:
        self._context = context
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("result")
        spec.output("report")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Compose the result received."""
        op_output.emit(compose_report(op_input.receive("result"), self._context), "report")
