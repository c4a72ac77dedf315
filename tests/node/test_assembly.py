"""When studies close, on a clock in the test's hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.node.assembly import Assembly
from app.node.status import close_study, read_status
from app.node.store.work import start_job, unfinished_jobs
from tests.node.inprocess import Bench
from tests.node.rig import report, ultrasound


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "state")


@pytest.fixture
def assembly(bench: Bench) -> Assembly:
    return Assembly(bench.store, bench.clock, 60)


def test_closes_after_silence_and_not_before(bench: Bench, assembly: Assembly) -> None:
    bench.receive(ultrasound("1"))
    assert not assembly.close_due()
    bench.clock.advance(59)
    bench.receive(ultrasound("2"))
    assert not assembly.close_due()
    bench.clock.advance(59)
    assert not assembly.close_due()
    bench.clock.advance(1)
    [closed] = assembly.close_due()
    assert (closed.images, closed.revision) == (2, 1)
    assert not assembly.close_due()


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, -3.2e8])
def test_jumps_of_the_wall_clock_close_nothing_and_delay_nothing(
    bench: Bench, assembly: Assembly, seconds: float
) -> None:
    bench.receive(ultrasound("1"))
    assert not assembly.close_due()
    bench.clock.advance(30)
    bench.clock.jump(seconds)
    assert not assembly.close_due()
    bench.clock.advance(30)
    assert len(assembly.close_due()) == 1


def test_silence_before_a_restart_counts(bench: Bench) -> None:
    bench.receive(ultrasound("1"))
    bench.clock.advance(60)
    assert len(Assembly(bench.store, bench.clock, 60).close_due()) == 1


def test_closes_on_command(bench: Bench, assembly: Assembly) -> None:
    bench.receive(ultrasound("1"))
    [study] = read_status(bench.settings).studies
    close_study(bench.settings, study.study_ref)
    assert len(assembly.close_due()) == 1
    # The request is spent: a late image waits for its own quiet period.
    bench.receive(ultrasound("2"))
    assert not assembly.close_due()


def test_unbegun_revision_is_superseded_and_input_is_fixed_at_closing(
    bench: Bench, assembly: Assembly
) -> None:
    for name in ("1", "2"):
        bench.receive(ultrasound(name))
        assembly.close_due()
        bench.clock.advance(60)
        assert len(assembly.close_due()) == 1
    [only] = unfinished_jobs(bench.store)
    bench.receive(ultrasound("3"))
    job = start_job(bench.store, only, bench.clock.now())
    assert job is not None
    assert (job.revision, job.result_number, len(job.paths)) == (2, 1, 2)
    bench.clock.advance(5)
    assert (
        start_job(bench.store, only, bench.clock.now()) == job
    )  # date and input are those of the first start


def test_report_alone_opens_nothing(bench: Bench, assembly: Assembly) -> None:
    bench.receive(report("1"))
    bench.clock.advance(1000)
    assert not assembly.close_due()
