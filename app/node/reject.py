"""Rejection notes: once a destination has a newer result, it is told which of its objects that replaces.

Promises: a note names what this destination has acknowledged and nothing else, follows the new result, and
is the same object however often it is made. Refuses to come before the new result: at no time is the study
without a valid one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from datetime import datetime
from io import BytesIO

from pydicom import dcmread

from app.files import write_whole
from app.logs import log
from app.node.clock import Clock
from app.node.crash import crash_point
from app.node.store.database import Store
from app.node.store.deliveries import result_folder
from app.node.store.rejections import Replacement, record_rejection, replacements
from app.node.store.work import REJECTION_NOTE, ResultObject

_AGAIN_SECONDS = 10.0  # until a note that could not be made is tried again


class RejectionNotes:
    """The notes that one destination is due. A study whose note cannot be made stays due."""

    def __init__(self, store: Store, destination: str, clock: Clock) -> None:
        self._store, self._destination, self._clock = store, destination, clock
        self._due: frozenset[str] | None = None  # Study Instance UIDs; None at first: all are looked at once
        self._all = threading.Event()
        self._failed: frozenset[str] = frozenset()
        self._again_at = 0.0

    def look_at(self, studies: Iterable[str]) -> None:
        """Something of these studies went to the destination, or was given up."""
        if self._due is not None:
            self._due |= frozenset(studies)

    def look_at_all(self) -> None:
        """Something of any study may have gone to the destination. May be called from any thread."""
        self._all.set()

    def make(self) -> bool:
        """Compose and queue the notes that are due; answers whether there is one."""
        if self._all.is_set():
            self._all.clear()
            self._due = None
        if self._failed and self._clock.monotonic() >= self._again_at:
            self.look_at(self._failed)
            self._failed = frozenset()
        if self._due == frozenset():
            return False
        made, failed = 0, set()
        for one in replacements(self._store, self._destination, self._due):
            if self._make_one(one):
                made += 1
            else:
                failed.add(one.study_instance_uid)
        if failed:
            self._failed |= failed
            self._again_at = self._clock.monotonic() + _AGAIN_SECONDS
        self._due = frozenset()
        return made > 0

    def _make_one(self, one: Replacement) -> bool:
        try:
            made = _compose(self._store, one)
        except Exception as error:
            # The disk, a result that somebody removed, a header the library dislikes: nothing waits for it.
            log().error("rejection-note-not-made", study_ref=one.study_ref, error=type(error).__name__)
            return False
        crash_point("rejection-written")
        record_rejection(self._store, self._destination, one, made, self._clock.now())
        crash_point("rejection-committed")
        log().info(
            "rejection-note-made",
            study_ref=one.study_ref,
            destination=self._destination,
            objects=len(one.rejected),
        )
        return True


def _compose(store: Store, one: Replacement) -> ResultObject:
    # Imported here: a worker none of whose destinations takes notes does without the library.
    from operators.report.composed import ObjectKind
    from operators.report.rejection import RejectedObject, compose_rejection_note

    captures = (ObjectKind.SUMMARY_CAPTURE, ObjectKind.LESION_CAPTURE)
    folder = result_folder(store, one.study_instance_uid, one.revision)
    report = dcmread(folder / one.report_file, stop_before_pixels=True)
    rejected = [
        RejectedObject(
            item.sop_class_uid, item.sop_instance_uid, item.series_instance_uid, item.kind in captures
        )
        for item in one.rejected
    ]
    composed_at = datetime.fromisoformat(one.composed_at)
    dataset = compose_rejection_note(report, one.result_number, composed_at, rejected).dataset
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    content = stream.getvalue()
    name = f"rejection-{hashlib.sha256(str(dataset.SOPInstanceUID).encode()).hexdigest()[:16]}.dcm"
    write_whole(folder / name, content)
    return ResultObject(
        file=name,
        kind=REJECTION_NOTE,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        sha256=hashlib.sha256(content).hexdigest(),
    )
