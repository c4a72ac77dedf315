"""Send DICOM files by C-STORE, as they are: what `busmap send` and the demo use.

Promises: each file goes out in the transfer syntax it is stored in, one presentation context for each pair
of class and syntax; every file has an outcome. Refuses files that are no DICOM before it connects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pynetdicom import AE

from app.errors import PeerError

_MAXIMUM_CONTEXTS = 128  # PS3.8 9.3.2: odd numbers from 1 to 255


@dataclass(frozen=True)
class Outcome:
    """What became of one file: DIMSE status (None: no context accepted, or the connection broke)."""

    path: Path
    status: int | None

    @property
    def stored(self) -> bool:
        """Success, a warning (Bxxx) or a duplicate (0x0111) all mean that the peer has the object."""
        return self.status is not None and (self.status in (0x0000, 0x0111) or self.status & 0xF000 == 0xB000)


def send(
    paths: Sequence[Path],
    host: str,
    port: int,
    called_ae_title: str,
    *,
    calling_ae_title: str = "BUSMAPSCU",
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Send files in the order given over one association.

    Raises
    ------
    PeerError
        A file is no DICOM, the peer cannot be reached, or it refuses the association.
    """
    datasets = [(path, _read(path)) for path in paths]
    contexts = sorted({(str(one.SOPClassUID), str(one.file_meta.TransferSyntaxUID)) for _, one in datasets})
    if len(contexts) > _MAXIMUM_CONTEXTS:
        raise PeerError(f"{len(contexts)} pairs of class and syntax, of which 128 fit: send fewer at once")
    entity = AE(ae_title=calling_ae_title)
    entity.connection_timeout = 10
    for sop_class, syntax in contexts:
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(host, port, ae_title=called_ae_title)
    if not association.is_established:
        why = "refused the association" if association.is_rejected else "cannot be reached"
        raise PeerError(f"{called_ae_title} at {host}:{port} {why}: check address, port and AE titles")
    outcomes = []
    try:
        for path, dataset in datasets:
            outcomes.append(Outcome(path, _store(association, dataset)))
            progress(outcomes[-1])
    finally:
        association.release()
    return outcomes


def _read(path: Path) -> FileDataset:
    try:
        dataset = dcmread(path)
        if "SOPClassUID" not in dataset or "TransferSyntaxUID" not in dataset.file_meta:
            raise PeerError(f"{path.name} names no SOP class or transfer syntax: it cannot be sent")
        return dataset
    except (InvalidDicomError, OSError) as error:
        raise PeerError(
            f"{path.name} cannot be read as DICOM ({type(error).__name__}): leave it out"
        ) from None


def _store(association: object, dataset: FileDataset) -> int | None:
    try:
        answer = association.send_c_store(dataset)  # type: ignore[attr-defined]
    except (ValueError, RuntimeError):
        return None  # no context for it, or the association is gone
    status = answer.get("Status")
    return None if status is None else int(status)
