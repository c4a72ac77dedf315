"""What Prometheus scrapes: the rows of the store, counted at the scrape, and what the gateway counts.

Promises: names start with `busmap_`; no label holds a patient's or a study's identity. A store that cannot
be read leaves its families out and says so in `busmap_store_readable`. What is known beforehand (states,
destinations, statuses) is there with 0: only so is the first one of a kind an increase.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from app.node.clock import Clock
from app.node.counters import GatewayCounts
from app.node.intake import MISMATCH, OUT_OF_RESOURCES, SUCCESS
from app.node.process import WORKER_FILE, read_runtime_file
from app.node.store.database import Store
from app.node.store.overview import StateCounts, count_states
from app.node.store.schema import DeliveryState, IdentityCode, InstanceKind, JobState, StudyState
from app.node.store.timings import NO_DELIVERIES, Durations, Timings, read_timings
from app.node.store.workers import worker_lines
from app.settings import Settings
from app.web.health import Process, check_node

_COMPARED = (IdentityCode.MATCHED, IdentityCode.MISMATCH)
# Every family, with its help: docs/metrics.md is made from this.
FAMILIES = {
    "busmap_build_info": "1, with the version in a label",
    "busmap_ready": "1 where the named dependency is ready, 0 where not",
    "busmap_store_readable": "1 where the database can be read, 0 where not",
    "busmap_associations_total": "requests for an association since the gateway started, by result: "
    "accepted, rejected (AE titles), local-limit (no place left)",
    "busmap_c_store_answers_total": "answers to C-STORE since the gateway started, by status",
    "busmap_studies": "studies, by state: idle, open, closed",
    "busmap_jobs": "jobs, by state: queued, running, done, failed, superseded",
    "busmap_results": "results, by status: findings, no-findings, nothing-usable",
    "busmap_oldest_job_age_seconds": "time since the oldest unfinished job was queued; 0 without one",
    "busmap_deliveries": "objects on their way, by destination and state",
    "busmap_oldest_delivery_age_seconds": "time since the oldest object still on its way was queued, by "
    "destination; 0 without one",
    "busmap_study_seconds": "histogram: time from the close of a study to its result",
    "busmap_delivery_seconds": "histogram: time from a result to the destination's acceptance of an object, "
    "by destination",
    "busmap_set_aside": "objects, frames and regions that results set aside, by reason (set-aside.md)",
    "busmap_identity_checks": "objects delivered or parked, by destination and identity compared",
    "busmap_instances": "objects kept, by kind: image, other, quarantine",
    "busmap_free_disk_bytes": "free space of the state folder",
    "busmap_workers": "workers that run; where they share a database, those seen within a minute",
}

_SEEN_SECONDS = 60.0


class NodeCollector(Collector):
    """Counts at every scrape."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock,
        answers: GatewayCounts,
        version: str,
        process: Process = "gateway",
    ) -> None:
        self._settings, self._store, self._clock, self._process = settings, store, clock, process
        self._answers, self._version = answers, version

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the store."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield _gauge("busmap_build_info", ["version"], [([self._version], 1)])
        yield _gauge(
            "busmap_ready",
            ["dependency"],
            [
                ([check.name], float(check.ready))
                for check in check_node(self._settings, self._store, self._process)
            ],
        )
        answers = CounterMetricFamily(
            "busmap_c_store_answers", FAMILIES["busmap_c_store_answers_total"], labels=["status"]
        )
        statuses = dict.fromkeys((SUCCESS, OUT_OF_RESOURCES, MISMATCH), 0) | self._answers.by_status()
        for status, count in sorted(statuses.items()):
            answers.add_metric([f"0x{status:04X}"], count)
        yield answers
        associations = CounterMetricFamily(
            "busmap_associations", FAMILIES["busmap_associations_total"], labels=["result"]
        )
        for result, count in sorted(self._answers.associations().items()):
            associations.add_metric([result], count)
        yield associations
        with contextlib.suppress(OSError):  # busmap_ready says why there is no figure
            free = shutil.disk_usage(self._store.folder).free
            yield _gauge("busmap_free_disk_bytes", [], [([], free)])
        try:
            counts, timings = count_states(self._store), read_timings(self._store)
            workers = self._workers()
        except SQLAlchemyError:
            yield _gauge("busmap_store_readable", [], [([], 0)])
            return
        yield _gauge("busmap_store_readable", [], [([], 1)])
        yield from self._of_store(counts)
        yield from self._of_timings(timings)
        yield _gauge("busmap_workers", [], [([], workers)])

    def _workers(self) -> int:
        if not self._store.is_shared:
            return int(read_runtime_file(self._settings.own_folder / WORKER_FILE) is not None)
        since = self._clock.now() - _SEEN_SECONDS
        return sum(one.seen_at > since for one in worker_lines(self._store))

    def _of_store(self, counts: StateCounts) -> Iterator[Metric]:
        for name, label, values in (
            ("busmap_studies", "state", _zeros(StudyState) | counts.studies),
            ("busmap_jobs", "state", _zeros(JobState) | counts.jobs),
            ("busmap_results", "status", counts.results),
            ("busmap_instances", "kind", _zeros(InstanceKind) | counts.instances),
            ("busmap_set_aside", "reason", counts.set_aside),
        ):
            yield _gauge(name, [label], [([key], count) for key, count in sorted(values.items())])
        yield _gauge(
            "busmap_deliveries",
            ["destination", "state"],
            [
                (list(key), count)
                for key, count in sorted((self._none_of(DeliveryState) | counts.deliveries).items())
            ],
        )
        yield _gauge(
            "busmap_identity_checks",
            ["destination", "identity"],
            [
                (list(key), count)
                for key, count in sorted((self._none_of(_COMPARED) | counts.identities).items())
            ],
        )
        age = self._age(counts.oldest_unfinished_job_at)
        yield _gauge("busmap_oldest_job_age_seconds", [], [([], age)])

    def _of_timings(self, timings: Timings) -> Iterator[Metric]:
        named = {*self._destinations, *timings.waiting_since}
        ages = [([name], self._age(timings.waiting_since.get(name))) for name in sorted(named)]
        yield _gauge("busmap_oldest_delivery_age_seconds", ["destination"], ages)
        yield _histogram("busmap_study_seconds", [], [([], timings.analyses)])
        deliveries = dict.fromkeys(self._destinations, NO_DELIVERIES) | timings.deliveries
        yield _histogram(
            "busmap_delivery_seconds",
            ["destination"],
            [([name], deliveries[name]) for name in sorted(deliveries)],
        )

    @property
    def _destinations(self) -> list[str]:
        return [one.name for one in self._settings.delivery.destinations]

    def _none_of(self, states: Iterable[str]) -> dict[tuple[str, str], int]:
        return {(name, str(state)): 0 for name in self._destinations for state in states}

    def _age(self, since: float | None) -> float:
        return 0.0 if since is None else max(0.0, self._clock.now() - since)


def _zeros(states: Iterable[str]) -> dict[str, int]:
    return {str(state): 0 for state in states}


def _gauge(name: str, labels: list[str], values: Iterable[tuple[list[str], float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, FAMILIES[name], labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def _histogram(
    name: str, labels: list[str], values: Iterable[tuple[list[str], Durations]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, FAMILIES[name], labels=labels)
    for labelled, found in values:
        buckets = [(f"{bound:g}", float(count)) for bound, count in found.within]
        family.add_metric(labelled, [*buckets, ("+Inf", float(found.count))], found.sum_seconds)
    return family


def exposition(collector: NodeCollector) -> bytes:
    """The text of one scrape (Prometheus exposition format 0.0.4)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)


def metrics_page() -> str:
    """The page docs/metrics.md."""
    rows = "\n".join(f"| `{name}` | {words} |" for name, words in sorted(FAMILIES.items()))
    return (
        "# Metrics\n\nWritten by `make docs` from the program itself. `GET /metrics` of the gateway, "
        "`web.host` and "
        "`web.port`, loopback by\ndefault. No label holds a patient's or a study's identity.\n\n"
        f"| name | what |\n| --- | --- |\n{rows}\n"
    )


if __name__ == "__main__":
    print(metrics_page(), end="")
