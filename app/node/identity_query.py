"""Asks a destination whose study it has: C-FIND (Study Root, PS3.4 C) or QIDO-RS (PS3.18 10.6).

Promises: an answer, or a code that says why there is none, within twice the time limit whatever the
destination does; where nobody answers at all, the rest of a batch is not asked; a bad answer costs its own
study alone. Refuses a server whose
certificate cannot be verified, and to follow it elsewhere.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

import requests
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association

from app.node.association import free_when_over
from app.node.identity import KEYWORDS, Compared, Patient, compare, patient_of
from app.settings import DestinationSettings

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_MOST_ANSWERS = 20  # a destination that answers more does not match the study's UID
_MOST_BYTES = 1024 * 1024
_PENDING = (0xFF00, 0xFF01)


class Unanswered(Exception):
    """The destination gave no answer. `code` says why; `last`: nor would it to the next question."""

    def __init__(self, code: str, *, last: bool = False) -> None:
        super().__init__(code)
        self.code, self.last = code, last


class Inquiry(Protocol):
    """A way of asking for the patients under a study."""

    def ask(self, study_instance_uid: str) -> list[Patient]:
        """All patients that the destination has under the study. Raises Unanswered."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class IdentityCheck:
    """Compares the results of one batch with one destination; a context manager."""

    def __init__(self, destination: DestinationSettings, calling_ae_title: str, seconds: float) -> None:
        self._seconds = seconds
        self._inquiry: Inquiry = (
            QidoInquiry(str(destination.qido_url), seconds)
            if destination.identity_check == "qido"
            else FindInquiry(destination, calling_ae_title, seconds)
        )
        self._answers: dict[str, list[Patient] | Unanswered] = {}
        self._over: Unanswered | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        closing = threading.Thread(target=self._inquiry.close, name="identity-close", daemon=True)
        closing.start()
        closing.join(self._seconds)  # some destinations serve one association at a time

    def compare(self, study_instance_uid: str, ours: Patient) -> Compared:
        """Compare a result's patient with the destination's; never raises, never waits without end."""
        if study_instance_uid not in self._answers:
            self._answers[study_instance_uid] = self._over or self._ask(study_instance_uid)
        answer = self._answers[study_instance_uid]
        return Compared(answer.code) if isinstance(answer, Unanswered) else compare(ours, answer)

    def _ask(self, study_instance_uid: str) -> list[Patient] | Unanswered:
        try:
            return _within(2 * self._seconds, lambda: self._inquiry.ask(study_instance_uid))
        except Unanswered as error:
            if error.last:
                self._over = error
            return error


def _within(seconds: float, ask: Callable[[], list[Patient]]) -> list[Patient]:
    """Run `ask` in a thread of its own: a library that waits for ever keeps nobody but that thread."""
    answers: queue.Queue[list[Patient] | Unanswered] = queue.Queue()

    def run() -> None:
        try:
            answers.put(ask())
        except Unanswered as error:
            answers.put(error)
        except Exception:
            # Whatever a destination's answer does to a library, the result is sent.
            answers.put(Unanswered("query-failed"))

    threading.Thread(target=run, name="identity", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise Unanswered("query-timeout", last=True) from None
    if isinstance(answer, Unanswered):
        raise answer
    return answer


class FindInquiry:
    """Asks by C-FIND over an association of its own, which is opened at the first question."""

    def __init__(self, destination: DestinationSettings, calling_ae_title: str, seconds: float) -> None:
        self._destination, self._seconds = destination, seconds
        self._entity = AE(calling_ae_title)
        self._entity.acse_timeout = self._entity.dimse_timeout = self._entity.network_timeout = seconds
        self._entity.connection_timeout = seconds
        self._entity.add_requested_context(STUDY_ROOT_FIND)
        self._association: Association | None = None

    def ask(self, study_instance_uid: str) -> list[Patient]:
        """All patients that the destination has under the study."""
        if self._association is None or not self._association.is_established:
            self._association = self._associate()
        try:
            status, patients = self._answers(self._association, study_instance_uid)
        except BaseException:
            self._association.abort()  # what is left of the answers would be taken for the next question's
            raise
        if status != 0x0000:
            raise Unanswered(f"status-0x{status:04X}")
        return patients

    def _answers(self, association: Association, study_instance_uid: str) -> tuple[int, list[Patient]]:
        """The final status, and the patients before it."""
        deadline = time.monotonic() + self._seconds
        patients: list[Patient] = []
        question = _question(study_instance_uid)
        for count, (status, identifier) in enumerate(association.send_c_find(question, STUDY_ROOT_FIND)):
            if "Status" not in status:
                raise Unanswered("query-timeout", last=True)
            if status.Status not in _PENDING:
                return int(status.Status), patients
            if count >= _MOST_ANSWERS or time.monotonic() > deadline:
                late = count < _MOST_ANSWERS
                raise Unanswered("query-timeout" if late else "answer-unreadable", last=late)
            patients += _patients(identifier, study_instance_uid)
        raise Unanswered("query-failed")

    def _associate(self) -> Association:
        destination = self._destination
        try:
            found = self._entity.associate(destination.host, destination.port, ae_title=destination.ae_title)
        except (OSError, RuntimeError, ValueError):
            raise Unanswered("unreachable", last=True) from None
        if found.is_established:
            free_when_over(found)
            return found
        if found.is_rejected:
            raise Unanswered("query-rejected", last=True)
        if found.rejected_contexts and not found.accepted_contexts:
            raise Unanswered("no-query-service", last=True)
        raise Unanswered("unreachable", last=True)

    def close(self) -> None:
        """Release the association."""
        if self._association is not None and self._association.is_established:
            self._association.release()


def _question(study_instance_uid: str) -> Dataset:
    """The identifier of a study-level query (PS3.4 C.6.2.1)."""
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study_instance_uid
    for keyword in KEYWORDS:
        setattr(identifier, keyword, "")
    return identifier


def _patients(answer: Dataset | None, study_instance_uid: str) -> list[Patient]:
    """The patient of one answer; none where the answer is of another study."""
    if answer is None:
        raise Unanswered("answer-unreadable")
    try:
        if UID(str(answer.get("StudyInstanceUID") or "").strip(" \0")) != study_instance_uid:
            return []
        return [patient_of(answer)]
    except (AttributeError, LookupError, TypeError, ValueError):
        raise Unanswered("answer-unreadable") from None


class QidoInquiry:
    """Asks by QIDO-RS for studies."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url, self._seconds = url.rstrip("/") + "/studies", seconds
        self._session = requests.Session()
        self._session.headers.update({"Accept": "application/dicom+json", "Accept-Encoding": "identity"})

    def ask(self, study_instance_uid: str) -> list[Patient]:
        """All patients that the destination has under the study."""
        parameters: dict[str, Any] = {"StudyInstanceUID": study_instance_uid, "includefield": KEYWORDS}
        try:
            with self._session.get(
                self._url, params=parameters, timeout=self._seconds, stream=True, allow_redirects=False
            ) as response:
                if response.status_code == requests.codes.no_content:
                    return []
                if response.status_code != requests.codes.ok:
                    raise Unanswered(f"http-{response.status_code}")
                content = self._read(response)
        except requests.exceptions.SSLError:
            raise Unanswered("tls-refused", last=True) from None
        except requests.exceptions.Timeout:
            raise Unanswered("query-timeout", last=True) from None
        except requests.exceptions.ConnectionError:
            raise Unanswered("unreachable", last=True) from None
        return [one for found in _studies(content) for one in _patients(found, study_instance_uid)]

    def _read(self, response: requests.Response) -> bytes:
        deadline = time.monotonic() + self._seconds
        content = b""
        while chunk := response.raw.read1(65536):
            content += chunk
            if len(content) > _MOST_BYTES:
                raise Unanswered("answer-unreadable")
            if time.monotonic() > deadline:
                raise Unanswered("query-timeout", last=True)
        return content

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


_WANTED = tuple(f"{tag_for_keyword(keyword):08X}" for keyword in ("StudyInstanceUID", *KEYWORDS))


def _studies(content: bytes) -> list[Dataset]:
    """The studies of a DICOM JSON answer (PS3.18 F), with the attributes that are compared."""
    try:
        return [
            Dataset.from_json({tag: one[tag] for tag in _WANTED if tag in one}) for one in json.loads(content)
        ]
    except Exception:  # pydicom raises a dozen kinds on what a server may write
        raise Unanswered("answer-unreadable") from None
