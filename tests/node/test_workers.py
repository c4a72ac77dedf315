"""Workers that share a database, at the store: what one has is its own, until it is found gone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from app.node.assembly import Assembly
from app.node.intake import SUCCESS
from app.node.membership import Membership
from app.node.store.database import Store, open_store
from app.node.store.deliveries import is_wanted, record_accepted, record_retry, take_due
from app.node.store.overview import study_lines
from app.node.store.work import (
    ResultObject,
    count_attempt,
    fail_job,
    finish_job,
    start_job,
)
from app.node.store.workers import beat, claim_job, held_jobs, remove, worker_lines
from tests.node.inprocess import Bench
from tests.node.rig import ultrasound

SILENCE = 10.0
MADE = ResultObject("r.dcm", "structured-report", "1.2", "1.9.1", "1.8", "d")


class Pair:
    """Two workers, each with its own connections; studies with one image each wait for them."""

    def __init__(self, folder: Path, database_url: str, studies: int = 2) -> None:
        self.bench = Bench(folder, database_url=database_url)
        for number in range(studies):
            assert self.bench.receive(ultrasound("1", f"study {number}")).status == SUCCESS
        self.clock = self.bench.clock
        Assembly(self.bench.store, self.clock, 0).close_due()
        self.stores = [open_store(folder, database_url) for _ in range(2)]
        self.places = [Membership(one, self.clock, SILENCE) for one in self.stores]

    def run(self, store: Store, job_id: int) -> bool:
        """Start a job and end it with a result."""
        assert start_job(store, job_id, self.clock.now()) is not None
        return finish_job(store, job_id, "no-findings", [MADE], ["pacs"], self.clock.now())

    def close(self) -> None:
        for one in (self.bench.store, *self.stores):
            one.close()


@pytest.fixture
def pair(tmp_path: Path, database_url: str):
    one = Pair(tmp_path / "state", database_url)
    yield one
    one.close()


def test_each_job_is_claimed_once(pair: Pair) -> None:
    first, second = pair.stores
    mine, others = claim_job(first), claim_job(second)
    assert {mine, others} == {1, 2}
    assert claim_job(first) is claim_job(second) is None
    assert (held_jobs(first), held_jobs(second)) == ([mine], [others])
    assert others is not None
    assert start_job(first, others, 0) is None
    assert pair.run(second, others)


def test_claims_at_the_same_moment_never_meet(tmp_path: Path, database_url: str) -> None:
    pair = Pair(tmp_path / "state", database_url, studies=12)
    claimed: list[list[int]] = [[], []]

    def claim(which: int) -> None:
        while (job_id := claim_job(pair.stores[which])) is not None:
            claimed[which].append(job_id)

    threads = [threading.Thread(target=claim, args=(which,)) for which in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(claimed[0] + claimed[1]) == list(range(1, 13))
    pair.close()


def test_a_revision_waits_for_the_worker_that_has_the_one_before(pair: Pair) -> None:
    first, second = pair.stores
    running = claim_job(first)
    assert running == 1
    start_job(first, running, 0)
    pair.bench.receive(ultrasound("late", "study 0"))
    Assembly(pair.bench.store, pair.clock, 0).close_due()
    other = claim_job(second)
    assert other == 2
    assert pair.run(second, other)
    assert claim_job(second) is None  # the third is a revision of what the first worker has
    assert finish_job(first, running, "no-findings", [], [], 0)
    assert claim_job(second) == 3


def test_a_silent_worker_is_found_gone_and_its_work_goes_on(pair: Pair) -> None:
    (first, second), (lives, watches) = pair.stores, pair.places
    job_id = claim_job(first)
    assert job_id is not None
    start_job(first, job_id, 0)
    assert watches.look() == []
    for _ in range(10):  # it beats: it stays, however long
        pair.clock.advance(SILENCE / 4)
        assert _beat(first)
        assert watches.look() == []
    for _ in range(4):
        assert watches.look() == []
        pair.clock.advance(SILENCE / 4)
    assert watches.look() == [lives.worker_id]
    assert claim_job(second) == job_id
    # What the first one does when it wakes up changes nothing.
    assert start_job(first, job_id, 0) is None
    assert not finish_job(first, job_id, "no-findings", [MADE], ["pacs"], 0)
    fail_job(first, job_id, "analysis-failed", "It failed.", 0)
    assert count_attempt(first, job_id) == 0
    assert not _beat(first)
    assert pair.run(second, job_id)
    line = next(one for one in study_lines(second) if one.job_state == "done")
    assert (line.attempts, len(line.deliveries)) == (0, 1)


def _beat(store: Store) -> bool:
    assert store.worker_id is not None
    return beat(store, store.worker_id, 0)


def test_a_jump_of_a_clock_and_a_pause_of_the_watcher_cost_nobody_a_place(pair: Pair) -> None:
    watches = pair.places[1]
    assert watches.look() == []
    pair.clock.jump(365 * 86400)
    assert watches.look() == []
    pair.clock.advance(100 * SILENCE)  # the watcher itself was stopped, or the database away for all
    assert watches.look() == []
    assert len(worker_lines(pair.bench.store)) == 2


def test_a_worker_that_leaves_gives_everything_back(pair: Pair) -> None:
    first, second = pair.stores
    job_id = claim_job(first)
    pair.places[0].leave()
    assert [one.worker_id for one in worker_lines(second)] == [pair.places[1].worker_id]
    assert claim_job(second) == job_id
    assert not remove(second, pair.places[0].worker_id)


def test_one_worker_at_a_time_sends_what_a_study_has(pair: Pair) -> None:
    first, second = pair.stores
    job_id = claim_job(first)
    assert job_id is not None
    assert pair.run(first, job_id)
    [sending] = take_due(first, "pacs", pair.clock.now())
    assert take_due(second, "pacs", pair.clock.now()) == []
    pair.bench.receive(ultrasound("late", f"study {job_id - 1}"))
    Assembly(pair.bench.store, pair.clock, 0).close_due()
    newer = next(one for one in iter(lambda: claim_job(second), None) if one > 2)
    start_job(second, newer, pair.clock.now())
    newest = ResultObject("r.dcm", "structured-report", "1.2", "1.9.2", "1.8", "e")
    assert finish_job(second, newer, "no-findings", [newest], ["pacs"], pair.clock.now())
    assert take_due(second, "pacs", pair.clock.now()) == []  # the first one still sends of that study
    assert is_wanted(second, sending.delivery_id) is is_wanted(first, sending.delivery_id) is False
    record_accepted(first, sending.delivery_id, 0, "", 1.0, "off")
    assert [one.result.sop_instance_uid for one in take_due(second, "pacs", pair.clock.now())] == ["1.9.2"]


def test_what_a_worker_sent_is_sent_again_once_it_is_gone(pair: Pair) -> None:
    first, second = pair.stores
    job_id = claim_job(first)
    assert job_id is not None
    assert pair.run(first, job_id)
    [sending] = take_due(first, "pacs", pair.clock.now())
    assert is_wanted(first, sending.delivery_id)
    pair.places[0].leave()
    assert not is_wanted(first, sending.delivery_id)
    record_accepted(first, sending.delivery_id, 0, "", 1.0, "off")  # too late to count
    [again] = take_due(second, "pacs", pair.clock.now())
    assert again.delivery_id == sending.delivery_id
    record_retry(first, [sending.delivery_id], None, "no answer", 9e9)
    record_accepted(second, again.delivery_id, 0, "", 2.0, "off")
    states = [sent.state for one in study_lines(second) for sent in one.deliveries]
    assert states == ["accepted"]


def test_a_worker_found_gone_takes_nothing_before_it_notices(pair: Pair) -> None:
    """It wakes up and looks for work at once; what it took then nobody would ever free."""
    first, second = pair.stores
    assert pair.run(second, _claimed(second))
    gone = pair.places[0].worker_id
    assert remove(second, gone)
    assert claim_job(first) is None
    assert take_due(first, "pacs", pair.clock.now()) == []
    pair.places[0].leave()
    assert claim_job(second) is not None
    assert len(take_due(second, "pacs", pair.clock.now())) == 1


def _claimed(store: Store) -> int:
    job_id = claim_job(store)
    assert job_id is not None
    return job_id
