"""The DICOM receiver: what it accepts, and how a transfer reaches the intake.

Promises: offers only syntaxes that are decoded here, lossless compressed ones first; answers C-ECHO whatever
the state of the models. Refuses deflated syntax (a small file may unfold to gigabytes) and video.
"""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.events import Event
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import register_uid, uid_to_service_class

from app.node.counters import AssociationResult, GatewayCounts
from app.node.guard import MAXIMUM_PDU_BYTES, GuardedServer, Limits, guarded_server_class
from app.node.intake import Intake
from app.node.transfers import Transfers
from app.settings import GatewaySettings

_STORAGE = "1.2.840.10008.5.1.4.1.1."
VERIFICATION = "1.2.840.10008.1.1"
# Old archives hold these; pynetdicom accepts their contexts but cannot serve them unless told.
_RETIRED = {_STORAGE + "6": "UltrasoundImageStorageRetired", _STORAGE + "3": "UltrasoundMultiFrameRetired"}
STORAGE_CLASSES = tuple(
    _STORAGE + suffix
    for suffix in (
        *("6.1", "3.1", "6", "3", "6.2"),  # ultrasound: image, multi-frame, both retired, 3D volume
        *("7", "7.1", "7.2", "7.3", "7.4"),  # secondary captures
        *("88.11", "88.22", "88.33", "88.34", "88.35", "88.59", "88.67"),  # reports, key objects, dose
    )
)
# Best first: the first that the sender offers too is taken (PS3.8 9.3.3).
TRANSFER_SYNTAXES = (
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.57"),  # lossless JPEG-LS, JPEG
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"),  # lossless JPEG 2000, RLE
    *("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202"),  # lossless HTJ2K
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2"),  # explicit and implicit little endian
    # Lossy already: kept as they are rather than made to be decoded by the sender.
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81"),
    *("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"),
    "1.2.840.10008.1.2.2",  # explicit big endian, retired
)
_MIB = 1024 * 1024


def make_receiver(
    settings: GatewaySettings, intake: Intake, incoming: Path, answers: GatewayCounts
) -> GuardedServer:
    """A server that listens and waits for `serve_forever`.

    Raises
    ------
    OSError
        The address or port cannot be listened on.
    """
    _prepare_library()
    entity = AE(settings.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(settings.allowed_calling_ae_titles)
    entity.maximum_pdu_size = MAXIMUM_PDU_BYTES
    entity.maximum_associations = settings.maximum_associations
    entity.acse_timeout = settings.first_byte_timeout_seconds
    entity.dimse_timeout = entity.network_timeout = settings.network_timeout_seconds
    entity.add_supported_context(VERIFICATION)
    for sop_class in STORAGE_CLASSES:
        entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    limits = Limits(
        associations=settings.maximum_associations,
        associations_per_address=settings.maximum_associations_per_address,
        first_byte_seconds=settings.first_byte_timeout_seconds,
        network_seconds=settings.network_timeout_seconds,
        message_bytes=settings.maximum_instance_mib * _MIB,
    )

    def count(_event: Event, result: AssociationResult) -> None:
        answers.count_association(result)

    server = entity.make_server(
        (settings.host, settings.port),
        evt_handlers=[
            (evt.EVT_CONN_OPEN, _take_transfers, [intake, incoming, answers]),
            (evt.EVT_CONN_CLOSE, _forget_cut_transfer),
            (evt.EVT_ACCEPTED, count, [AssociationResult.ACCEPTED]),
            (evt.EVT_REJECTED, count, [AssociationResult.REJECTED]),
        ],
        server_class=guarded_server_class(
            limits, lambda: answers.count_association(AssociationResult.LOCAL_LIMIT)
        ),
    )
    entity._servers.append(server)  # as start_server does, so that server.shutdown() finds itself
    return server


def _prepare_library() -> None:
    """Set pynetdicom's process-wide switches."""
    _config.LOG_HANDLER_LEVEL = "none"  # its own handlers write whole messages
    for uid, keyword in _RETIRED.items():
        if not issubclass(uid_to_service_class(UID(uid)), StorageServiceClass):
            register_uid(UID(uid), keyword, StorageServiceClass)


def _take_transfers(event: Event, intake: Intake, incoming: Path, answers: GatewayCounts) -> None:
    event.assoc.busmap_transfers = Transfers(event.assoc, intake, incoming, answers)


def _forget_cut_transfer(event: Event) -> None:
    """Remove what an association left behind when it ended within a transfer."""
    event.assoc.busmap_transfers.discard()
