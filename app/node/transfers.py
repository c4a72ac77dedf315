"""C-STORE taken from the socket straight to the intake, in the association's own thread.

pynetdicom makes objects of each fragment, hands messages to a second thread, and each of its threads looks
for work once a millisecond (docs/decisions/0007-receiving.md has the figures). Here our reading of PDUs
precedes the library's while an association is established: storage requests are ours, everything else goes on
to the library. tests/node/test_guard.py holds the contract with the pinned release.

Promises: one answer for each request, 0xA700 where the disk fails within a transfer; a transfer that is cut
leaves no file. Refuses bytes that make no sense, and large messages that are no storage: their association
ends.
"""

from __future__ import annotations

import queue
import select
from pathlib import Path
from typing import Any

from pynetdicom.association import Association

from app.logs import log
from app.node.counters import GatewayCounts
from app.node.crash import crash_point
from app.node.guard import message_done, put_back
from app.node.incoming import IncomingFile
from app.node.intake import MISMATCH, OUT_OF_RESOURCES, SUCCESS, Answer, Intake, Transfer
from app.node.pdata import (
    C_STORE_REQUEST,
    P_DATA,
    BadMessage,
    Command,
    Fragment,
    read_command,
    read_fragments,
    store_response,
)

_ESTABLISHED = "Sta6"  # PS3.8 9.2: ready for data transfer
_LINGER_SECONDS = 0.02  # how long the next PDU is waited for here, before the library looks for its own work
_NAP_SECONDS = 0.2  # how often the second thread looks after timeouts
_LONGEST_FOREIGN_BYTES = 64 * 1024  # of a message that is no storage, a C-ECHO
_STORAGE = "1.2.840.10008.5.1.4.1.1."


def _let_sleep(association: Association) -> None:
    """Wake the library's second thread when there is something for it, instead of once a millisecond."""
    messages, primitives = association.dimse.msg_queue, association.dul.to_user_queue
    put = primitives.put

    def get_message(block: bool = False) -> Any:
        try:
            return messages.get(timeout=association.dimse_timeout if block else _NAP_SECONDS)
        except queue.Empty:
            return None, None

    def put_and_wake(primitive: Any) -> None:
        put(primitive)
        messages.put((None, None))

    association.dimse.get_msg = get_message
    primitives.put = put_and_wake


class Transfers:
    """The storage requests of one association."""

    def __init__(
        self, association: Association, intake: Intake, folder: Path, answers: GatewayCounts
    ) -> None:
        self._association, self._intake, self._folder = association, intake, folder
        self._answers = answers
        self._dul: Any = association.dul
        self._library_reads = self._dul._read_pdu_data
        self._dul._read_pdu_data = self._read
        _let_sleep(association)
        self._command = bytearray()
        self._request: Command | None = None  # a storage request whose data set is under way
        self._file: IncomingFile | None = None  # None where the request is refused, or the disk failed
        self._refusal = Answer(OUT_OF_RESOURCES)  # what such a request is answered
        self._foreign_bytes = 0

    def discard(self) -> None:
        """Remove what a transfer left that the connection did not survive."""
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _read(self) -> None:
        """In the place of `DULServiceProvider._read_pdu_data`: called when there are bytes to read."""
        if self._dul.state_machine.current_state != _ESTABLISHED:
            self._library_reads()
            return
        try:
            while self._read_pdu() and self._more():
                self._dul._idle_timer.restart()
        except OSError:
            self._dul.event_queue.put("Evt17")  # the connection is gone
        except Exception as error:
            log().error(
                "transfer-ended", peer=str(self._association.requestor.address), error=type(error).__name__
            )
            self._dul.socket.close()  # the reactor takes it for a lost connection

    def _read_pdu(self) -> bool:
        """Read a PDU; False where it is for the library, or the connection ended."""
        head = self._dul.socket.recv(6)
        if len(head) < 6 or head[0] != P_DATA:
            put_back(self._association, head)
            self._library_reads()
            return False
        length = int.from_bytes(head[2:], "big")
        body = self._dul.socket.recv(length)
        if len(body) < length:
            self._dul.event_queue.put("Evt17")
            return False
        taken = [self._take(fragment) for fragment in read_fragments(body)]
        return all(taken)

    def _more(self) -> bool:
        """Whether the peer goes on and the library has nothing to send."""
        socket = self._dul.socket.socket
        if socket is None or self._dul.to_provider_queue.qsize():
            return False
        pending = getattr(socket, "pending", None)  # TLS holds decrypted bytes that no poll sees
        if pending is not None and pending():
            return True
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        return bool(poll.poll(_LINGER_SECONDS * 1000))

    def _take(self, fragment: Fragment) -> bool:
        """Take a fragment of a storage request; False where it went to the library."""
        if not fragment.is_command:
            if self._request is None:
                return self._pass_on(fragment)
            self._append(fragment)
            return True
        self._command += fragment.data
        if len(self._command) > _LONGEST_FOREIGN_BYTES:
            raise BadMessage("a command set without an end")
        if not fragment.is_last:
            return True
        if self._request is not None:
            raise BadMessage("a command within a data set")
        data, self._command = self._command, bytearray()
        command = read_command(data)
        if command.field != C_STORE_REQUEST:
            self._foreign_bytes = 0
            return self._pass_on(Fragment(fragment.context_id, True, True, memoryview(data)))
        self._begin(fragment.context_id, command)
        return True

    def _pass_on(self, fragment: Fragment) -> bool:
        self._foreign_bytes += len(fragment.data)
        if self._foreign_bytes > _LONGEST_FOREIGN_BYTES:
            raise BadMessage("a large message that is no storage")
        put_back(self._association, fragment.to_pdu())
        self._library_reads()
        return False

    def _begin(self, context_id: int, request: Command) -> None:
        context = self._association._accepted_cx.get(context_id)
        if context is None or not str(context.abstract_syntax).startswith(_STORAGE):
            raise BadMessage("a storage request in no context for storage")
        if not request.has_data_set:
            self._answer(context_id, request, Answer(MISMATCH, "the request carries no data set"))
            return
        self._request = request
        if request.sop_class_uid != context.abstract_syntax:
            # A class may be sent that was not accepted: its data set passes by.
            self._refusal = Answer(MISMATCH, "the context was accepted for another SOP class")
            log().warning(
                "image-refused",
                peer=str(self._association.requestor.address),
                reason=self._refusal.comment,
                code="0xA900",
            )
            return
        try:
            self._file = IncomingFile(
                self._folder,
                request.sop_class_uid,
                request.sop_instance_uid,
                str(context.transfer_syntax[0]),
            )
        except OSError as error:
            self._disk_failed(error)
        crash_point("transfer-begun")

    def _append(self, fragment: Fragment) -> None:
        if self._file is not None:
            try:
                self._file.write(fragment.data)
            except OSError as error:
                self._disk_failed(error)
        if fragment.is_last:
            self._end(fragment.context_id)

    def _disk_failed(self, error: OSError) -> None:
        """Let the rest of the data set pass by, so that the sender gets an answer and not silence."""
        log().error("image-not-stored", error=type(error).__name__, remedy=error.strerror, code="0xA700")
        self._refusal = Answer(OUT_OF_RESOURCES, "cannot store now; try again later")
        self.discard()

    def _end(self, context_id: int) -> None:
        request, file = self._request, self._file
        assert request is not None
        self._request = None
        if file is None:
            answer = self._refusal
        else:
            received = file.finish()
            self._dul._idle_timer.stop()  # a slow disk is no silence of the peer
            answer = self._intake.receive(
                Transfer(
                    received,
                    affected_sop_class_uid=request.sop_class_uid,
                    affected_sop_instance_uid=request.sop_instance_uid,
                    transfer_syntax_uid=str(self._association._accepted_cx[context_id].transfer_syntax[0]),
                    peer=str(self._association.requestor.address),
                )
            )
            self._dul._idle_timer.restart()
            self.discard()  # gone already where it was kept
        self._answer(context_id, request, answer)

    def _answer(self, context_id: int, request: Command, answer: Answer) -> None:
        message_done(self._association)
        crash_point("image-before-answer")
        comment = answer.comment if answer.status != SUCCESS else ""
        # Past the library's own `send`, which tells nobody that it failed.
        socket = self._dul.socket.socket
        if socket is None:
            raise ConnectionError("closed before the answer")
        socket.sendall(store_response(context_id, request, answer.status, comment))
        self._answers.count(answer.status)
