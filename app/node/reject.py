"""Rejection notes: once a destination has a newer result, it is told which of its objects that replaces.

Promises: a note names what this destination has acknowledged and nothing else, follows the new result, and
is the same object however often it is made. Refuses to come before the new result: at no time is the study
without a valid one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from datetime import datetime
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from app.logs import log
from app.node.crash import crash_point
from app.node.store.database import Store, sync
from app.node.store.deliveries import result_folder
from app.node.store.rejections import Replacement, record_rejection, replacements
from app.node.store.work import REJECTION_NOTE, ResultObject


def make_rejection_notes(store: Store, destination: str, studies: Collection[str] | None, now: float) -> int:
    """Compose and queue the notes that are due for a destination; answers how many.

    Parameters
    ----------
    studies : Study Instance UIDs to look at; None looks at all.
    """
    count = 0
    for one in replacements(store, destination, studies):
        try:
            made = _compose(store, one)
        except Exception as error:
            # The disk, a result that somebody removed, a header the library dislikes: nothing waits for it.
            log().error("rejection-note-not-made", study_ref=one.study_ref, error=type(error).__name__)
            continue
        crash_point("rejection-written")
        record_rejection(store, destination, one, made, now)
        crash_point("rejection-committed")
        log().info(
            "rejection-note-made", study_ref=one.study_ref, destination=destination, objects=len(one.rejected)
        )
        count += 1
    return count


def _compose(store: Store, one: Replacement) -> ResultObject:
    # Imported here: a worker none of whose destinations takes notes does without the library.
    from operators.report.rejection import RejectedObject, compose_rejection_note

    folder = result_folder(store, one.study_instance_uid, one.revision)
    report = dcmread(folder / one.report_file, stop_before_pixels=True)
    rejected = [
        RejectedObject(
            item.sop_class_uid, item.sop_instance_uid, item.series_instance_uid, item.kind.endswith("capture")
        )
        for item in one.rejected
    ]
    composed_at = datetime.fromisoformat(one.composed_at)
    dataset = compose_rejection_note(report, one.result_number, composed_at, rejected).dataset
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    content = stream.getvalue()
    name = f"rejection-{hashlib.sha256(str(dataset.SOPInstanceUID).encode()).hexdigest()[:16]}.dcm"
    _write(folder / name, content)
    return ResultObject(
        file=name,
        kind=REJECTION_NOTE,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _write(path: Path, content: bytes) -> None:
    """The file appears whole, and is on the disk before a row names it."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(content)
    sync(temporary)
    temporary.rename(path)
    sync(path.parent)
