"""Durations and ages that metrics show, from rows of a real store."""

from __future__ import annotations

from pathlib import Path

from app.node.counters import GatewayCounts
from app.node.store.timings import read_timings
from app.web.metrics import NodeCollector, exposition
from tests.node.rig import free_port
from tests.node.test_deliver import Outbox


def _scrape(outbox: Outbox) -> str:
    bench = outbox.bench
    collector = NodeCollector(bench.settings, bench.store, bench.clock, GatewayCounts(), "0")
    return exposition(collector).decode()


def test_what_waits_for_a_destination_grows_old_and_what_is_accepted_has_a_duration(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "state", free_port())
    outbox.bench.clock.advance(90)
    assert 'busmap_oldest_delivery_age_seconds{destination="pacs"} 90.0' in _scrape(outbox)
    with outbox.bench.store.write() as connection:
        now = outbox.bench.clock.now()
        connection.exec_driver_sql("UPDATE delivery SET state = 'accepted', accepted_at = ?", (now,))
    text = _scrape(outbox)
    assert 'busmap_oldest_delivery_age_seconds{destination="pacs"} 0.0' in text
    assert 'busmap_delivery_seconds_bucket{destination="pacs",le="60"} 0.0' in text
    assert 'busmap_delivery_seconds_bucket{destination="pacs",le="120"} 1.0' in text
    assert 'busmap_delivery_seconds_sum{destination="pacs"} 90.0' in text
    assert "busmap_study_seconds_count 1.0" in text


def test_a_clock_set_back_is_no_time(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "state", free_port())
    with outbox.bench.store.write() as connection:
        connection.exec_driver_sql("UPDATE job SET finished_at = closed_at - 3600")
    found = read_timings(outbox.bench.store).analyses
    assert (found.count, found.sum_seconds) == (1, 0.0)
    assert [count for _, count in found.within] == [1] * len(found.within)
