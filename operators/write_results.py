"""Write a composed result to a folder, which appears whole or not at all.

Promises: flat `*.dcm` files, `result.json`, `metadata.json` and `report.html`; every file is on disk before
the folder gets its name. Refuses a target that already holds something.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, InputContext, Operator, OperatorSpec
from pydicom.filebase import DicomBytesIO

from operators.report.composed import ComposedObject, ComposedReport


def write_results(report: ComposedReport, folder: Path) -> None:
    """Write a result into a new `folder`, whose parent exists.

    Raises
    ------
    OSError
        The folder exists already with something in it, or cannot be written.
    """
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        objects = [_write(partial, index, one) for index, one in enumerate(report.objects, start=1)]
        facts = {**report.summary, "objects": objects}
        _write_bytes(partial / "result.json", (json.dumps(facts, indent=1) + "\n").encode())
        _write_bytes(partial / "metadata.json", (json.dumps(_metadata(report)) + "\n").encode())
        _write_bytes(partial / "report.html", report.page.encode())
        partial.chmod(0o755)  # mkdtemp closes it to all but its owner; hosts collect as another user
        _sync(partial)
        partial.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write(folder: Path, index: int, one: ComposedObject) -> dict[str, Any]:
    stream = DicomBytesIO()
    one.dataset.save_as(stream, enforce_file_format=True)
    content = stream.getvalue()
    name = f"{index:02d}-{one.kind.value}.dcm"
    _write_bytes(folder / name, content)
    return {
        "file": name,
        "kind": one.kind.value,
        "sop_class_uid": one.sop_class_uid,
        "sop_instance_uid": one.sop_instance_uid,
        "series_instance_uid": str(one.dataset.SeriesInstanceUID),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _metadata(report: ComposedReport) -> dict[str, Any]:
    """The flat facts that a workflow manager can branch on."""
    keys = ("status", "probability", "frames_analysed", "result_number", "disclaimer")
    return {
        **{key: report.summary[key] for key in keys},
        "lesions": len(report.summary["lesions"]),
        "set_aside": len(report.summary["set_aside"]),
        "remarks": "\n".join(report.summary["remarks"]),
        "models": ", ".join(f"{one['name']} {one['version']}" for one in report.summary["models"]),
    }


def _write_bytes(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class WriteResultsOperator(Operator):
    """Graph step: writes the objects received on port `report` to a folder."""

    def __init__(self, fragment: Any, *args: Any, folder: Path, **kwargs: Any) -> None:
        self._folder = folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.input("report")

    def compute(self, op_input: InputContext, op_output: Any, context: ExecutionContext) -> None:
        """Write the result received."""
        write_results(op_input.receive("report"), self._folder)
