"""From a transfer to a kept instance: durable bytes, then a durable row, then the answer.

Promises: 0x0000 only after file, folder and row have reached the disk; every failure has a status and a
comment of its own. Refuses to raise: trouble with disk or database is 0xA700, so the sender tries again.
Files are named by the SHA-256 of their bytes; no path is made from a received value.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from app.files import sync
from app.logs import StudyRefs, log
from app.node.clock import Clock
from app.node.commits import Commits
from app.node.crash import crash_point
from app.node.header import Identity, RefusedObject, read_identity
from app.node.incoming import Received, read_kept
from app.node.store.database import Store
from app.node.store.images import (
    Outcome,
    ReceivedInstance,
    look_up,
)

SUCCESS, OUT_OF_RESOURCES, MISMATCH = 0x0000, 0xA700, 0xA900
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Their arrival opens a study. The 3D volume does so to be named in the report as not analysed.
IMAGE_CLASSES = frozenset(_STORAGE + suffix for suffix in ("6.1", "3.1", "6", "3", "6.2"))
SECONDARY_CAPTURE_CLASSES = frozenset(_STORAGE + suffix for suffix in ("7", "7.1", "7.2", "7.3", "7.4"))
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Transfer:
    """One C-STORE request whose bytes have all come; its file is on the file system of the store."""

    received: Received
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    transfer_syntax_uid: str
    peer: str


@dataclass(frozen=True)
class Answer:
    """The status of a C-STORE response (PS3.4 B.2.3) and its Error Comment, at most 64 characters."""

    status: int
    comment: str = ""


class Intake:
    """Keeps what arrives."""

    def __init__(
        self,
        store: Store,
        refs: StudyRefs,
        clock: Clock,
        *,
        minimum_free_disk_mib: int,
        accept_secondary_capture: bool,
    ) -> None:
        self._store, self._refs, self._clock = store, refs, clock
        self._commits = Commits(store)
        self._minimum_free_bytes = minimum_free_disk_mib * _MIB
        self._image_classes = IMAGE_CLASSES | (
            SECONDARY_CAPTURE_CLASSES if accept_secondary_capture else frozenset()
        )

    def receive(self, transfer: Transfer) -> Answer:
        """Keep one transfer and answer it. Never raises."""
        try:
            return self._receive(transfer)
        except RefusedObject as error:
            log().warning("image-refused", peer=transfer.peer, reason=str(error), code="0xA900")
            return Answer(MISMATCH, str(error)[:64])
        except (OSError, SQLAlchemyError) as error:
            log().error("image-not-stored", peer=transfer.peer, error=type(error).__name__, code="0xA700")
            return Answer(OUT_OF_RESOURCES, "cannot store now; try again later")
        except Exception as error:
            # A fault of ours must not cost the sender its image: it is asked to try again.
            log().error("intake-fault", peer=transfer.peer, error=type(error).__name__, code="0xA700")
            return Answer(OUT_OF_RESOURCES, "cannot store now; try again later")

    def _receive(self, transfer: Transfer) -> Answer:
        crash_point("image-received")
        if shutil.disk_usage(self._store.folder).free < self._minimum_free_bytes:
            log().error("disk-low", peer=transfer.peer, remedy="free disk space in the state folder")
            return Answer(OUT_OF_RESOURCES, "disk space is low; try again later")
        received = transfer.received
        identity = read_identity(received.path, transfer.transfer_syntax_uid)
        if identity.sop_class_uid != transfer.affected_sop_class_uid:
            raise RefusedObject("SOPClassUID of request and data set differ")
        if identity.sop_instance_uid != transfer.affected_sop_instance_uid:
            raise RefusedObject("SOPInstanceUID of request and data set differ")
        study_ref = self._refs(identity.study_instance_uid)
        known = look_up(self._store, identity.sop_instance_uid, received.content_sha256)
        if identity.made_by_busmap or known.is_result:
            log().info("own-result-returned", study_ref=study_ref, peer=transfer.peer)
            return Answer(SUCCESS, "made by busmap; not analysed")
        kept = known.file_sha256
        if kept and self._store.image_path(kept).exists():
            log().info("image-duplicate", study_ref=study_ref, peer=transfer.peer)
            return Answer(SUCCESS)
        # A row whose file is gone names the digest it had: the bytes are the same but for the file meta.
        self._make_durable(received.path, kept or received.file_sha256)
        crash_point("image-before-commit")
        outcome = self._commits.keep(self._instance(identity, transfer, study_ref, self._clock.now()))
        crash_point("image-committed")
        log().info(
            f"image-{outcome.value}", study_ref=study_ref, peer=transfer.peer, bytes=received.size_bytes
        )
        if outcome is Outcome.QUARANTINE:
            return Answer(SUCCESS, "UID known with other bytes; kept in quarantine")
        return Answer(SUCCESS)

    def adopt(self, path: Path) -> bool:
        """Keep an image that lies at its place and has no row; False where it is not whole, or ours.

        Raises
        ------
        OSError
            It cannot be read or made durable now.
        SQLAlchemyError
            Its row could not be committed.
        """
        try:
            received, syntax = read_kept(path)
            identity = read_identity(path, syntax)
        except ValueError:  # RefusedObject is one
            return False
        if received.file_sha256 != path.stem or identity.made_by_busmap:
            return False
        for place in (path, path.parent):  # a kill may have come before their sync
            sync(place)
        study_ref = self._refs(identity.study_instance_uid)
        transfer = Transfer(received, identity.sop_class_uid, identity.sop_instance_uid, syntax, peer="")
        self._commits.keep(self._instance(identity, transfer, study_ref, path.stat().st_mtime))
        log().info("image-adopted", study_ref=study_ref, bytes=received.size_bytes)
        return True

    def _instance(
        self, identity: Identity, transfer: Transfer, study_ref: str, received_at: float
    ) -> ReceivedInstance:
        return ReceivedInstance(
            study_instance_uid=identity.study_instance_uid,
            study_ref=study_ref,
            series_instance_uid=identity.series_instance_uid,
            sop_instance_uid=identity.sop_instance_uid,
            sop_class_uid=identity.sop_class_uid,
            transfer_syntax_uid=transfer.transfer_syntax_uid,
            file_sha256=transfer.received.file_sha256,
            content_sha256=transfer.received.content_sha256,
            size_bytes=transfer.received.size_bytes,
            is_image=identity.sop_class_uid in self._image_classes,
            received_at=received_at,
        )

    def _make_durable(self, path: Path, file_sha256: str) -> None:
        final = self._store.image_path(file_sha256)
        sync(path)
        crash_point("image-synced")
        path.rename(final)
        crash_point("image-renamed")
        sync(final.parent)
