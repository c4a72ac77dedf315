"""Sends results: what lies in the outbox goes to its destination until that has answered for good.

Promises: the bytes sent are the bytes composed, checked by digest; at least once, under the same UIDs; what
the network or a busy destination refuses is tried again with full jitter, what it refuses for good is parked
and shown, and so is a result whose patient the destination's study does not name. Refuses to give up
silently, and to send what a newer result replaces.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association

from app.logs import log
from app.node.association import free_when_over
from app.node.clock import Chance, Clock
from app.node.crash import crash_point
from app.node.patients import PatientCheck, Sender
from app.node.reject import RejectionNotes
from app.node.store.database import Store
from app.node.store.deliveries import (
    Delivery,
    is_wanted,
    record_accepted,
    record_parked,
    record_retry,
    record_untouched,
    requeue_interrupted,
    result_folder,
    take_due,
)
from app.settings import DeliverySettings, DestinationSettings

_CONNECT_SECONDS = 10
_FAULT_SECONDS = 10  # wait after a fault of ours


class Verdict(StrEnum):
    """What a C-STORE status means for a delivery."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    PARK = "park"


def verdict(status: int) -> Verdict:
    """Judge a C-STORE status (PS3.4 B.2.3, PS3.7 annex C).

    0xB000 to 0xBFFF are stored with a warning; 0x0111 says that the object is there already. Statuses that
    the object itself earns are final; whatever else goes wrong at the destination may pass.
    """
    if status in (0x0000, 0x0111) or 0xB000 <= status <= 0xBFFF:
        return Verdict.ACCEPTED
    final = 0xA900 <= status <= 0xA9FF or 0xC000 <= status <= 0xCFFF
    if final or status in (0x0117, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212):
        return Verdict.PARK
    return Verdict.RETRY


def retry_delay(attempts: int, settings: DeliverySettings, chance: Chance) -> float:
    """Seconds until the next try: full jitter under a bound that doubles from minimum to maximum."""
    doubled = settings.retry_minimum_seconds * 2.0 ** min(attempts, 60)
    return chance() * min(settings.retry_maximum_seconds, doubled)


class Deliverer:
    """Serves one destination; a dead one holds up no other."""

    def __init__(
        self, store: Store, destination: DestinationSettings, sender: Sender, clock: Clock, chance: Chance
    ) -> None:
        self._store, self._destination, self._sender = store, destination, sender
        self._clock, self._chance = clock, chance
        self._stop = threading.Event()
        self._interrupted = False  # rows still say that something is being sent
        self._patients = PatientCheck(store, destination, sender)
        self._notes = RejectionNotes(store, destination.name, clock) if destination.rejection_note else None

    def run(self, wake: threading.Event, poll_seconds: float) -> None:
        """Send until stopped; `wake` cuts the wait short."""
        while not self._stop.is_set():
            try:
                if self._interrupted:
                    requeue_interrupted(
                        self._store, self._clock.now() + _FAULT_SECONDS, self._destination.name
                    )
                    self._interrupted = False
                busy = self.send_due()
                busy = self._make_notes() or busy
            except Exception as error:
                # The thread must outlive whatever a destination or the disk does; what was being sent is
                # due again.
                log().error("delivery-fault", destination=self._destination.name, error=type(error).__name__)
                busy, self._interrupted = False, True
            if not busy:
                wake.wait(poll_seconds)
                wake.clear()

    def stop(self) -> None:
        """Finish the object under way and take no other."""
        self._stop.set()

    def look_at_all(self) -> None:
        """Another worker has gone: what it sent may be due a rejection note that it did not live to make."""
        if self._notes is not None:
            self._notes.look_at_all()

    def send_due(self) -> bool:
        """Send everything that is due now over one association; answers whether there was anything."""
        due = take_due(self._store, self._destination.name, self._clock.now())
        whole = [one for one in due if self._is_whole(one)]
        cleared, differing = self._patients.compare(whole, self._stop)
        if differing:
            self._log_parked(differing, "identity-mismatch", "busmap status")
        if cleared:
            self._send(cleared)
        if self._notes is not None:
            self._notes.look_at(one.study_instance_uid for one in due)
        return bool(due)

    def _make_notes(self) -> bool:
        """Queue the rejection notes that what was sent calls for; answers whether there is one."""
        return self._notes is not None and self._notes.make()

    def _is_whole(self, one: Delivery) -> bool:
        path = self._path(one)
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            found = ""
        if found == one.result.sha256:
            return True
        self._park([one], None, "the kept result is missing or was changed on disk: restore it from a backup")
        return False

    def _path(self, one: Delivery) -> Path:
        return result_folder(self._store, one.study_instance_uid, one.revision) / one.result.file

    def _send(self, due: Sequence[Delivery]) -> None:
        try:
            association = self._associate(due)
        except (OSError, RuntimeError, ValueError) as error:  # a host name without an address, for one
            self._retry(due, None, f"the destination cannot be reached ({type(error).__name__})")
            return
        if not association.is_established:
            self._not_associated(association, due)
            return
        free_when_over(association)
        try:
            for index, one in enumerate(due):
                if self._stop.is_set():
                    record_untouched(self._store, [left.delivery_id for left in due[index:]])
                    return
                if not association.is_established:
                    self._retry(due[index:], None, "the association was lost")
                    return
                if is_wanted(self._store, one.delivery_id):
                    self._send_one(association, one)
                else:
                    record_untouched(self._store, [one.delivery_id])
        finally:
            if association.is_established:
                association.release()

    def _associate(self, due: Sequence[Delivery]) -> Association:
        _config.STORE_SEND_CHUNKED_DATASET = True  # the file's bytes as they are, never decoded
        entity = AE(self._sender.ae_title)
        seconds = self._sender.settings.network_timeout_seconds
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = seconds
        entity.connection_timeout = min(seconds, _CONNECT_SECONDS)
        for sop_class in dict.fromkeys(one.result.sop_class_uid for one in due):
            entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
            # A context of its own: whoever takes the default syntax alone gets the same data set in it.
            entity.add_requested_context(sop_class, ImplicitVRLittleEndian)
        destination = self._destination
        return entity.associate(destination.host, destination.port, ae_title=destination.ae_title)

    def _not_associated(self, association: Association, due: Sequence[Delivery]) -> None:
        if association.is_rejected:
            answer = association.acceptor.primitive
            self._retry(due, None, f"association rejected: {answer.reason_str}"[:200])
        elif association.rejected_contexts and not association.accepted_contexts:
            self._park(due, None, "the destination accepts none of the object classes: configure it for them")
        else:
            self._retry(due, None, "the destination cannot be reached")

    def _send_one(self, association: Association, one: Delivery) -> None:
        accepted = {
            context.transfer_syntax[0]
            for context in association.accepted_contexts
            if context.abstract_syntax == one.result.sop_class_uid
        }
        if not accepted:
            self._park([one], None, "the destination does not accept this object class: configure it for it")
            return
        crash_point("delivery-before-send")
        try:
            path = self._path(one)
            # As it is where the destination takes it so; encoded anew for one of the default syntax alone.
            as_it_is = ExplicitVRLittleEndian in accepted
            response = association.send_c_store(path if as_it_is else dcmread(path))
        except (OSError, RuntimeError, ValueError, AttributeError) as error:
            self._retry([one], None, f"sending failed ({type(error).__name__})")
            return
        crash_point("delivery-sent")
        if "Status" not in response:
            self._retry([one], None, "no answer to the object")
            return
        comment = "".join(filter(str.isprintable, str(response.get("ErrorComment") or "")))
        self._judge(one, int(response.Status), comment[:64])

    def _judge(self, one: Delivery, status: int, comment: str) -> None:
        message = f"0x{status:04X} {comment}".strip()
        judged = verdict(status)
        if judged is Verdict.RETRY:
            self._retry([one], status, message)
        elif judged is Verdict.PARK:
            self._park([one], status, message)
        else:
            record_accepted(
                self._store,
                one.delivery_id,
                status,
                message if status else "",
                self._clock.now(),
                one.identity,
            )
            crash_point("delivery-committed")
            log().info(
                "object-delivered",
                study_ref=one.study_ref,
                destination=self._destination.name,
                code=f"0x{status:04X}",
            )

    def _retry(self, due: Sequence[Delivery], status: int | None, message: str) -> None:
        now = self._clock.now()
        keep_for = self._sender.settings.retry_for_hours * 3600
        late = [one for one in due if now - one.queued_at >= keep_for]
        if late:
            self._park(late, status, f"{message}; not delivered within delivery.retry_for_hours")
        again = [one for one in due if now - one.queued_at < keep_for]
        if not again:
            return
        # One wait for all of an association: they come back together, over one association.
        delay = retry_delay(max(one.attempts for one in again), self._sender.settings, self._chance)
        record_retry(self._store, [one.delivery_id for one in again], status, message, now + delay)
        log().warning(
            "delivery-retried",
            destination=self._destination.name,
            count=len(again),
            seconds=round(delay, 1),
            reason=_for_log(status, message),
        )

    def _park(self, due: Sequence[Delivery], status: int | None, message: str) -> None:
        record_parked(self._store, [one.delivery_id for one in due], status, message)
        self._log_parked(due, _for_log(status, message), "busmap resend")

    def _log_parked(self, due: Sequence[Delivery], reason: str, remedy: str) -> None:
        for one in due:
            log().error(
                "delivery-parked",
                study_ref=one.study_ref,
                destination=self._destination.name,
                reason=reason,
                remedy=remedy,
            )


def _for_log(status: int | None, message: str) -> str:
    """Our own words as they are; of an answer its status alone, since its comment may name a patient."""
    return message if status is None else f"0x{status:04X}"
