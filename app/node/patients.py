"""Before results are sent: is the destination's study of the patient that was analysed?

Promises: what differs is parked with the names of the attributes; what cannot be compared is sent, and says
why. A person's release is obeyed without asking again.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.node.identity import read_patient
from app.node.identity_query import IdentityCheck
from app.node.store.database import Store
from app.node.store.deliveries import Delivery, record_mismatch, record_untouched, result_folder
from app.node.store.schema import IdentityCode
from app.settings import DeliverySettings, DestinationSettings


@dataclass(frozen=True)
class Sender:
    """Who sends: the calling AE title, and how."""

    ae_title: str
    settings: DeliverySettings


class PatientCheck:
    """Compares what is due with what one destination has."""

    def __init__(self, store: Store, destination: DestinationSettings, sender: Sender) -> None:
        self._store, self._destination, self._sender = store, destination, sender

    def compare(
        self, due: Sequence[Delivery], stop: threading.Event
    ) -> tuple[list[Delivery], list[Delivery]]:
        """What may be sent, with its `identity`, and what was parked; after `stop`, the rest is due again."""
        destination, seconds = self._destination, self._sender.settings.identity_timeout_seconds
        if destination.identity_check == "off":
            return [replace(one, identity=IdentityCode.OFF) for one in due], []
        cleared: list[Delivery] = []
        differing: dict[tuple[str, ...], list[Delivery]] = defaultdict(list)
        with IdentityCheck(destination, self._sender.ae_title, seconds) as check:
            for index, one in enumerate(due):
                if stop.is_set():
                    record_untouched(self._store, [left.delivery_id for left in due[index:]])
                    break
                if one.identity == IdentityCode.RELEASED:
                    cleared.append(one)
                    continue
                path = result_folder(self._store, one.study_instance_uid, one.revision) / one.result.file
                compared = check.compare(one.study_instance_uid, read_patient(path))
                if compared.code == IdentityCode.MISMATCH:
                    differing[compared.differing].append(one)
                else:
                    cleared.append(replace(one, identity=compared.code))
        for keywords, parked in differing.items():
            self._park(parked, keywords)
        return cleared, [one for parked in differing.values() for one in parked]

    def _park(self, due: Sequence[Delivery], keywords: Sequence[str]) -> None:
        message = (
            f"identity-mismatch: {', '.join(keywords)} of the destination's study differ from the images "
            "analysed; correct the study, or release the result with `busmap resend --release-identity`"
        )
        record_mismatch(self._store, [one.delivery_id for one in due], message)
