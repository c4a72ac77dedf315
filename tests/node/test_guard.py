"""The contract with the pinned pynetdicom: what the guard takes hold of is there and behaves as expected."""

from __future__ import annotations

import inspect
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pynetdicom
import pytest
from pynetdicom import AE, fsm
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import (
    AssociationServer,
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from app.node import guard
from app.node.guard import Limits, PeerCut, guard_association, guarded_server_class
from tests.node.rig import VERIFICATION

LIMITS = Limits(
    associations=4,
    associations_per_address=2,
    first_byte_seconds=0.5,
    network_seconds=0.3,
    message_bytes=1000,
)


def test_the_release_is_the_one_this_was_written_for() -> None:
    assert pynetdicom.__version__ == "3.0.4"


def test_pdus_are_read_through_recv_and_oserror_closes_the_connection() -> None:
    source = inspect.getsource(DULServiceProvider._read_pdu_data)
    assert "self.socket.recv(6)" in source
    assert "self.socket.recv(pdu_length)" in source
    assert source.count("except (OSError, TimeoutError)") == 2


def test_reactor_hands_fragments_to_receive_primitive() -> None:
    assert "dul.assoc.dimse.receive_primitive" in inspect.getsource(fsm.DT_2)


def test_the_reactors_go_on_as_the_transfers_expect() -> None:
    transport = inspect.getsource(DULServiceProvider._is_transport_event)
    assert transport.count("self._read_pdu_data()") == 2
    assert "self._idle_timer.restart()" in inspect.getsource(DULServiceProvider.run_reactor)
    assert "self.dimse.get_msg(block=False)" in inspect.getsource(Association._run_reactor)
    assert fsm.TRANSITION_TABLE[("Evt10", "Sta6")] == "DT-2"
    acceptor = inspect.getsource(ACSE._negotiate_as_acceptor)
    assert acceptor.index("self.assoc._accepted_cx = ") < acceptor.index("self.send_accept()")
    handle = inspect.getsource(RequestHandler.handle)
    assert handle.index("EVT_CONN_OPEN") < handle.index("assoc.start()")


def test_what_was_put_back_is_read_first(guarded: tuple[Any, socket.socket]) -> None:
    association, peer = guarded
    peer.sendall(b"def")
    guard.put_back(association, b"abc")
    assert association.dul.socket.recv(2) == b"ab"
    assert association.dul.socket.recv(4) == b"cdef"


def test_what_is_overridden_exists() -> None:
    for owner, name in (
        (AssociationSocket, "recv"),
        (RequestHandler, "_create_association"),
        (AssociationServer, "get_request"),
        (AssociationServer, "process_request"),
        (AssociationServer, "server_close"),
        (ThreadedAssociationServer, "finish_request"),
    ):
        assert callable(getattr(owner, name))
    assert "request_handler" in inspect.signature(AssociationServer.__init__).parameters
    assert "server_class" in inspect.signature(AE.make_server).parameters


@pytest.fixture
def guarded() -> Iterator[tuple[Any, socket.socket]]:
    ours, theirs = socket.socketpair()
    wrapped = SimpleNamespace(socket=ours)
    association = SimpleNamespace(dul=SimpleNamespace(socket=wrapped), is_established=True)
    guard_association(cast(Any, association), LIMITS, connected_at=0)
    yield association, theirs
    ours.close()
    theirs.close()


def test_whole_pdu_passes(guarded: tuple[Any, socket.socket]) -> None:
    association, peer = guarded
    peer.sendall(b"abcdef")
    assert association.dul.socket.recv(6) == b"abcdef"


def test_claim_beyond_the_cap_is_cut_before_reading(guarded: tuple[Any, socket.socket]) -> None:
    association, _ = guarded
    with pytest.raises(PeerCut, match="claims"):
        association.dul.socket.recv(300 * 2**20)


def test_message_beyond_the_cap_is_cut_and_the_next_counts_anew(guarded: tuple[Any, socket.socket]) -> None:
    association, peer = guarded
    longest = guard._LONGEST_PDU_BYTES
    threading.Thread(target=peer.sendall, args=(bytes(longest + 1001),), daemon=True).start()
    assert len(association.dul.socket.recv(longest)) == longest
    guard.message_done(association)
    assert len(association.dul.socket.recv(1001)) == 1001
    with pytest.raises(PeerCut, match="message"):
        association.dul.socket.recv(longest)


def test_stall_within_a_pdu_is_cut(guarded: tuple[Any, socket.socket]) -> None:
    association, peer = guarded
    peer.sendall(b"ab")
    with pytest.raises(OSError):
        association.dul.socket.recv(6)


def test_end_of_stream_answers_what_came(guarded: tuple[Any, socket.socket]) -> None:
    association, peer = guarded
    peer.sendall(b"ab")
    peer.close()
    assert association.dul.socket.recv(6) == b"ab"


def test_full_porch_lets_the_longest_silent_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_PORCH_PLACES", 3)
    entity = AE()
    entity.add_supported_context(VERIFICATION)
    limits = Limits(4, 2, first_byte_seconds=30, network_seconds=5, message_bytes=1000)
    server = entity.make_server(("127.0.0.1", 0), server_class=guarded_server_class(limits))
    entity._servers.append(server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        silent = [socket.create_connection(server.server_address[:2]) for _ in range(4)]
        silent[0].settimeout(10)
        assert silent[0].recv(1) == b""
        for one in silent:
            one.close()
    finally:
        server.shutdown()
