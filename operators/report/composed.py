"""What composing a report makes: DICOM objects and a plain summary, still in memory.

Promises: the same study result and context give the same UIDs. Nothing here writes a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydicom.dataset import Dataset


class ObjectKind(StrEnum):
    """The kinds of object that busmap sends."""

    STRUCTURED_REPORT = "structured-report"
    SUMMARY_CAPTURE = "summary-capture"
    LESION_CAPTURE = "lesion-capture"
    REJECTION_NOTE = "rejection-note"


@dataclass(frozen=True)
class Predecessor:
    """The result that this one replaces."""

    result_number: int
    composed_at: datetime
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True)
class ReportContext:
    """What a report says of itself. `composed_at` is timezone-aware; it is fixed once and kept."""

    composed_at: datetime
    result_number: int = 1
    predecessor: Predecessor | None = None
    sr_sop_class: str = "comprehensive-3d"
    capture_modality: str = "OT"
    summary_capture: str = "always"
    maximum_lesion_captures: int = 6
    malignant_prevalence: float = 0.33


@dataclass(frozen=True)
class ComposedObject:
    """One DICOM object to be stored in the PACS, complete with file meta information."""

    kind: ObjectKind
    dataset: Dataset = field(repr=False, compare=False)

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID of the object."""
        return str(self.dataset.SOPInstanceUID)

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID of the object."""
        return str(self.dataset.SOPClassUID)


@dataclass(frozen=True)
class ComposedReport:
    """All objects of one result, the structured report first, its facts (result.json) and its page (HTML)."""

    objects: tuple[ComposedObject, ...]
    summary: dict[str, Any]
    page: str = field(repr=False)
