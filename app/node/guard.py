"""Keeps silent, slow and oversized peers away from the associations.

Promises: a connection is nothing but a socket on the porch until its first byte; a peer that stays silent,
stalls within a PDU, claims a PDU or sends a message beyond the cap is cut; no address and no crowd can take
all places. What pynetdicom lacks for this is added from outside (its `server_class`, its sockets' `recv`);
tests/node/test_guard.py holds the contract with the pinned release.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from app.logs import log

MAXIMUM_PDU_BYTES = 128 * 1024
# An A-ASSOCIATE-RQ with 128 contexts of 40 syntaxes stays under this; nothing longer is ever due.
_LONGEST_PDU_BYTES = MAXIMUM_PDU_BYTES + 256 * 1024
_PORCH_PLACES = 512
# A-ASSOCIATE-RJ: rejected transient, by the presentation service, local limit exceeded (PS3.8 9.3.4).
_BUSY = bytes((3, 0, 0, 0, 0, 4, 0, 2, 3, 2))


@dataclass(frozen=True)
class Limits:
    """What the guard allows: times in seconds, sizes in bytes."""

    associations: int
    associations_per_address: int
    first_byte_seconds: float
    network_seconds: float
    message_bytes: int


class PeerCut(OSError):
    """A peer went beyond a limit; pynetdicom takes it for a lost connection."""


def guard_association(association: Association, limits: Limits, connected_at: float) -> None:
    """Put caps on the socket of an accepted association.

    Until the association is established a PDU must be there `first_byte_seconds` after connecting; later,
    each within `network_seconds` of its first byte.
    """
    wrapped = association.dul.socket
    assert wrapped is not None
    established_by = connected_at + limits.first_byte_seconds
    received = 0
    waiting = bytearray()  # read already, and put back

    def recv(count: int) -> bytearray:
        nonlocal received
        if waiting:
            taken = waiting[:count]
            del waiting[:count]
            return taken if len(taken) == count else taken + recv(count - len(taken))
        if count > _LONGEST_PDU_BYTES:
            raise PeerCut("the peer claims a PDU beyond the limit")
        received += count
        if received > limits.message_bytes + _LONGEST_PDU_BYTES:
            raise PeerCut("the peer sends a message beyond the limit")
        deadline = time.monotonic() + limits.network_seconds
        if not association.is_established:
            deadline = min(deadline, max(established_by, time.monotonic() + 0.1))
        try:
            return _read(wrapped.socket, count, deadline)
        finally:
            wrapped.socket.settimeout(limits.network_seconds)  # holds for the next sending

    def message_done() -> None:
        nonlocal received
        received = 0

    wrapped.recv = recv
    association.busmap_message_done = message_done
    association.busmap_put_back = waiting.extend


def end_on_faults(association: Association) -> None:
    """End the association where a fragment cannot be taken: a full disk, or bytes that make no sense.

    An exception there would kill the library's reactor thread and leave peer and association waiting.
    """
    take = association.dimse.receive_primitive

    def receive_primitive(primitive: Any) -> None:
        try:
            take(primitive)
        except Exception as error:
            log().error("transfer-ended", peer=association.requestor.address, error=type(error).__name__)
            association.dul.socket.close()  # the reactor takes it for a lost connection

    association.dimse.receive_primitive = receive_primitive


def message_done(association: Association) -> None:
    """The last message was answered: the next one may be as large again."""
    association.busmap_message_done()


def put_back(association: Association, data: bytes | bytearray) -> None:
    """Let the next `recv` begin with these bytes."""
    association.busmap_put_back(data)


def _read(source: socket.socket, count: int, deadline: float) -> bytearray:
    """Read exactly `count` bytes, fewer only at the end of the stream."""
    read, position = bytearray(count), 0
    with memoryview(read) as view:
        while position < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise PeerCut("the peer stalled within a PDU")
            source.settimeout(left)
            taken = source.recv_into(view[position:])
            if not taken:
                break
            position += taken
    del read[position:]
    return read


class _GuardedHandler(RequestHandler):
    """Makes the association as pynetdicom does, then puts the caps on it."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        server = cast(GuardedServer, self.server)
        guard_association(association, server.limits, time.monotonic())
        end_on_faults(association)
        server.admitted(self.client_address[0], association)
        return association


class GuardedServer(ThreadedAssociationServer):
    """Accepts at once, lets a connection wait on the porch for its first byte, and counts."""

    request_queue_size = 128  # the library's 5 makes a crowd wait for TCP's retries
    limits: Limits  # set by the subclass that `guarded_server_class` makes, as is the next
    refused: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._waiting: dict[socket.socket, tuple[Any, float]] = {}
        self._admitted: list[tuple[str, Association]] = []
        self._arriving: list[str] = []  # places given away whose associations do not exist yet
        self._lock = threading.Lock()
        self._wake_out, self._wake_in = socket.socketpair()
        self._stopping = False
        kwargs["request_handler"] = _GuardedHandler
        super().__init__(*args, **kwargs)
        self._porch = threading.Thread(target=self._watch_porch, name="porch", daemon=True)
        self._porch.start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept and nothing else: a TLS handshake here would let one silent peer block all."""
        return self.socket.accept()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Put a new connection on the porch; the longest silent one leaves where it is full."""
        with self._lock:
            if len(self._waiting) >= _PORCH_PLACES:
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                _close(oldest)
            self._waiting[request] = (client_address, time.monotonic() + self.limits.first_byte_seconds)
        self._wake()

    def admitted(self, address: str, association: Association) -> None:
        """Count an association that is about to start."""
        with self._lock:
            self._admitted.append((address, association))

    def _give_back(self, address: str) -> None:
        with self._lock:
            self._arriving.remove(address)

    def server_close(self) -> None:
        """Close the listener and send everybody on the porch away."""
        self._stopping = True
        self._wake()
        super().server_close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._wake_in.send(b"\0")

    def _watch_porch(self) -> None:
        while not self._stopping:
            with self._lock:
                waiting = list(self._waiting)
            poll = select.poll()
            poll.register(self._wake_out, select.POLLIN)
            for one in waiting:
                if one.fileno() >= 0:
                    poll.register(one, select.POLLIN)
            by_number = {one.fileno(): one for one in waiting}
            ready = {number for number, _ in poll.poll(200)}
            if self._wake_out.fileno() in ready:
                self._wake_out.recv(4096)
            self._settle(by_number[number] for number in ready if number in by_number)
        with self._lock:
            for one in self._waiting:
                _close(one)
            self._waiting.clear()

    def _settle(self, spoke: Iterable[socket.socket]) -> None:
        """Start associations for those that spoke; close those that stayed silent too long."""
        now = time.monotonic()
        with self._lock:
            starting = [(one, self._waiting.pop(one)[0]) for one in spoke if one in self._waiting]
            late = [one for one, (_, deadline) in self._waiting.items() if deadline < now]
            for one in late:
                del self._waiting[one]
        for one in late:
            _close(one)
        if late:
            log().info("silent-connections-closed", count=len(late))
        for one, address in starting:
            threading.Thread(target=self._start, args=(one, address), daemon=True).start()

    def _start(self, connection: socket.socket, client_address: Any) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self.limits.first_byte_seconds)
        try:
            if not connection.recv(1, socket.MSG_PEEK):  # a probe that connects and leaves
                _close(connection)
                return
            if not self._take_place(client_address[0]):
                log().warning("association-refused", peer=client_address[0], reason="local-limit")
                self.refused()
                connection.sendall(_BUSY)
                _close(connection)
                return
            try:
                if self.ssl_context:
                    connection = self.ssl_context.wrap_socket(connection, server_side=True)
                self.finish_request(connection, client_address)
            finally:
                self._give_back(client_address[0])
        except (OSError, ssl.SSLError) as error:
            log().warning("connection-lost", peer=client_address[0], error=type(error).__name__)
            _close(connection)

    def _take_place(self, address: str) -> bool:
        """Reserve a place under the caps until the association counts itself; False where there is none."""
        with self._lock:
            # One not started yet is not alive either: it has no identity as a thread.
            self._admitted = [
                (peer, one) for peer, one in self._admitted if one.is_alive() or one.ident is None
            ]
            places = Counter([*(peer for peer, _ in self._admitted), *self._arriving])
            free = (
                places.total() < self.limits.associations
                and places[address] < self.limits.associations_per_address
            )
            if free:
                self._arriving.append(address)
            return free


def guarded_server_class(limits: Limits, refused: Callable[[], None] = lambda: None) -> type[GuardedServer]:
    """The server class with these limits, for `AE.make_server(server_class=...)`.

    Parameters
    ----------
    refused : called for each association that finds no place.
    """
    return type("LimitedServer", (GuardedServer,), {"limits": limits, "refused": staticmethod(refused)})


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.close()
