"""How answers are judged, how long is waited, and what is never sent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.node.assembly import Assembly
from app.node.deliver import Deliverer, Verdict, retry_delay, verdict
from app.node.patients import Sender
from app.node.status import read_status, resend
from app.node.store.deliveries import park_unknown, result_folder, take_due
from app.node.store.overview import StudyLine
from app.node.store.work import ResultObject, finish_job, start_job, unfinished_jobs
from app.settings import DeliverySettings, DestinationSettings
from tests.node.inprocess import Bench
from tests.node.rig import Pacs, free_port, ultrasound
from tests.operators.made_files import uid


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((code, Verdict.ACCEPTED) for code in (0x0000, 0xB000, 0xB006, 0xB007, 0xBFFF, 0x0111)),
        *((code, Verdict.RETRY) for code in (0xA700, 0xA7FF, 0x0110, 0x0106)),
        *((code, Verdict.PARK) for code in (0xA900, 0xA9FF, 0xC000, 0xC211, 0xCFFF, 0x0122, 0x0124)),
    ],
)
def test_status_is_judged(status: int, expected: Verdict) -> None:
    assert verdict(status) is expected


@given(attempts=st.integers(0, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_wait_is_jittered_and_bounded(attempts: int, chance: float) -> None:
    settings = DeliverySettings()
    delay = retry_delay(attempts, settings, lambda: chance)
    assert 0 <= delay <= settings.retry_maximum_seconds
    assert delay <= settings.retry_minimum_seconds * 2**attempts


class Outbox:
    """One result that waits for one destination."""

    def __init__(self, folder: Path, port: int, host: str = "127.0.0.1") -> None:
        destination = DestinationSettings(name="pacs", ae_title="PACS", host=host, port=port)
        self.bench = Bench(
            folder,
            delivery={"destinations": [destination], "retry_for_hours": 1, "network_timeout_seconds": 5},
        )
        self.bench.receive(ultrasound("1"))
        Assembly(self.bench.store, self.bench.clock, 0).close_due()
        [job_id] = unfinished_jobs(self.bench.store)
        job = start_job(self.bench.store, job_id, 0)
        assert job is not None
        self.folder = result_folder(self.bench.store, job.study_instance_uid, 1)
        self.folder.mkdir(parents=True)
        made = ultrasound("result", "study")
        made.save_as(self.folder / "r.dcm", enforce_file_format=True)
        digest = hashlib.sha256((self.folder / "r.dcm").read_bytes()).hexdigest()
        self.made = ResultObject("r.dcm", "k", made.SOPClassUID, made.SOPInstanceUID, uid("series"), digest)
        finish_job(self.bench.store, job_id, "no-findings", [self.made], ["pacs"], self.bench.clock.now())
        sender = Sender("BUSMAP", self.bench.settings.delivery)
        self.deliverer = Deliverer(self.bench.store, destination, sender, self.bench.clock, lambda: 0.5)

    @property
    def study(self) -> StudyLine:
        [one] = read_status(self.bench.settings).studies
        return one


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "state", free_port())


def test_unreachable_destination_is_retried_then_parked(outbox: Outbox) -> None:
    assert outbox.deliverer.send_due()
    assert not outbox.deliverer.send_due()  # not due yet
    [sent] = outbox.study.deliveries
    assert (sent.state, sent.attempts) == ("queued", 1)
    assert sent.next_try_at == outbox.bench.clock.now() + 2.5
    outbox.bench.clock.advance(3600)
    assert outbox.deliverer.send_due()
    [sent] = outbox.study.deliveries
    assert sent.state == "parked"
    assert "retry_for_hours" in str(sent.message)
    assert resend(outbox.bench.settings, outbox.study.study_ref) == 1


def test_host_without_address_is_retried(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "state", 104, host="no-such-host.invalid")
    assert outbox.deliverer.send_due()
    [sent] = outbox.study.deliveries
    assert (sent.state, sent.attempts) == ("queued", 1)
    assert "cannot be reached" in str(sent.message)


def test_changed_file_is_never_sent(outbox: Outbox) -> None:
    (outbox.folder / "r.dcm").write_bytes(b"changed")
    assert outbox.deliverer.send_due()
    [sent] = outbox.study.deliveries
    assert (sent.state, sent.message) == (
        "parked",
        "the kept result is missing or was changed on disk: restore it from a backup",
    )


def test_class_without_context_is_parked(tmp_path: Path) -> None:
    pacs = Pacs()
    pacs.classes = ("1.2.840.10008.5.1.4.1.1.7",)
    pacs.start()
    try:
        outbox = Outbox(tmp_path / "state", pacs.port)
        assert outbox.deliverer.send_due()
        [sent] = outbox.study.deliveries
        assert sent.state == "parked"
        assert "accept" in str(sent.message)
    finally:
        pacs.stop()


def test_destination_that_settings_dropped_is_parked(outbox: Outbox) -> None:
    assert park_unknown(outbox.bench.store, ["another"]) == 1
    assert not take_due(outbox.bench.store, "pacs", 2e9)
