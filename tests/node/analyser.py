"""An analyser for tests of the node's mechanics: writes real DICOM objects without an engine.

The objects depend on input and context alone, as those of the product do. Names of input files steer it
through markers in a folder: see `tests/node/rig.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from app.settings import Settings
from operators.report.composed import ReportContext
from operators.study import MixedPatientError

SR, CAPTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class Identity:
    engine: str = "double"
    precision: str = "FP32"


@dataclass(frozen=True)
class Engines:
    engine: Identity = Identity()


def load(settings: Settings) -> Engines:
    return Engines()


def analyse(
    paths: Sequence[Path],
    output_folder: Path,
    *,
    engines: Engines,
    settings: Settings,
    context: ReportContext,
    warnings: Sequence[str] = (),
) -> None:
    assert paths
    _obey(settings.state_folder)
    inputs = [dcmread(path) for path in paths]
    if len({str(one.PatientID) for one in inputs}) > 1:
        raise MixedPatientError("Two patients under one study: correct it at the source.")
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    digest.update(f"{context.result_number}{context.predecessor}{context.composed_at}".encode())
    partial = Path(tempfile.mkdtemp(dir=output_folder.parent, prefix="."))
    objects = [
        _write(partial, kind, sop_class, digest.hexdigest(), inputs[0], context)
        for kind, sop_class in (("structured-report", SR), ("summary-capture", CAPTURE))
    ]
    facts: dict[str, Any] = {
        "status": "no-findings",
        "objects": objects,
        "set_aside": [
            {"reason": "no-analysable-tissue"} for one in inputs if one.get("ImageComments") == "EMPTY"
        ],
        "warnings": list(warnings),
        "images": len(paths),
        "replaces": context.predecessor.result_number if context.predecessor else None,
    }
    (partial / "result.json").write_text(json.dumps(facts))
    partial.rename(output_folder)


def _obey(folder: Path) -> None:
    """Do the misdeed that a test asked for, once for each file it left."""
    for marker in sorted(folder.glob("misdeed-*")):
        misdeed = marker.name.split("-")[1]
        marker.unlink()
        if misdeed == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif misdeed == "raise":
            raise RuntimeError("CANARY^NAME 1.2.3.4.5.6.7")
        elif misdeed == "memory":
            bytearray(64 << 30)
        elif misdeed == "hang":
            signal.pause()
        elif misdeed == "wait":
            (folder / "gate").read_bytes()  # a FIFO: until the test opens it


def _write(
    folder: Path, kind: str, sop_class: str, digest: str, source: Dataset, context: ReportContext
) -> dict[str, str]:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = sop_class
    made.SOPInstanceUID = UID(
        "2.25." + str(int(hashlib.sha256((digest + kind).encode()).hexdigest()[:30], 16))
    )
    made.StudyInstanceUID = source.StudyInstanceUID
    made.SeriesInstanceUID = UID(str(made.SOPInstanceUID) + ".1")
    made.PatientID, made.PatientName = source.PatientID, source.PatientName
    made.Manufacturer, made.Modality = "busmap", "SR"
    made.ContentDate = context.composed_at.strftime("%Y%m%d")
    path = folder / f"{kind}.dcm"
    made.save_as(path, enforce_file_format=True)
    return {
        "file": path.name,
        "kind": kind,
        "sop_class_uid": str(made.SOPClassUID),
        "sop_instance_uid": str(made.SOPInstanceUID),
        "series_instance_uid": str(made.SeriesInstanceUID),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
