"""How long studies and deliveries took, and how long the oldest ones wait: what metrics show.

Promises: reads within one transaction, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from app.node.store.database import Store
from app.node.store.schema import DeliveryState, JobState, delivery, job

# Upper bounds in seconds. A study of four images takes about one; the promise is two minutes.
ANALYSIS_BOUNDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
DELIVERY_BOUNDS = (1.0, 5.0, 30.0, 60.0, 120.0, 300.0, 1800.0, 7200.0, 86400.0)


@dataclass(frozen=True)
class Durations:
    """How many of a kind took at most each bound (cumulative, as Prometheus counts), all of them, their sum.

    `sum_seconds` adds what the rows say; a clock set back counts as no time.
    """

    within: tuple[tuple[float, int], ...]
    count: int
    sum_seconds: float


NO_DELIVERIES = Durations(tuple((bound, 0) for bound in DELIVERY_BOUNDS), 0, 0.0)


@dataclass(frozen=True)
class Timings:
    """Durations from the close of a study to its result, and by destination from there to its acceptance.

    `waiting_since`: by destination, when the oldest object still on its way was queued; seconds since 1970.
    """

    analyses: Durations
    deliveries: dict[str, Durations]
    waiting_since: dict[str, float]


def read_timings(store: Store) -> Timings:
    """The durations of all results and of all accepted objects."""
    taken = job.c.finished_at - job.c.closed_at
    done: Select[Any] = select(*_aggregates(taken, ANALYSIS_BOUNDS)).where(job.c.state == JobState.DONE)
    on_the_way = delivery.c.state.in_((DeliveryState.QUEUED, DeliveryState.SENDING))
    waiting = (
        select(delivery.c.destination, func.min(delivery.c.queued_at))
        .where(on_the_way)
        .group_by(delivery.c.destination)
    )
    with store.read() as connection:
        return Timings(
            analyses=_durations(connection.execute(done).one(), ANALYSIS_BOUNDS),
            deliveries=_deliveries(connection),
            waiting_since={row[0]: row[1] for row in connection.execute(waiting)},
        )


def _deliveries(connection: Connection) -> dict[str, Durations]:
    taken = delivery.c.accepted_at - delivery.c.queued_at
    query: Select[Any] = (
        select(*_aggregates(taken, DELIVERY_BOUNDS), delivery.c.destination)
        .where(delivery.c.state == DeliveryState.ACCEPTED)
        .group_by(delivery.c.destination)
    )
    return {row.destination: _durations(row, DELIVERY_BOUNDS) for row in connection.execute(query)}


def _aggregates(taken: ColumnElement[float], bounds: tuple[float, ...]) -> list[ColumnElement[Any]]:
    """Count, sum, and the count within each bound."""
    positive = case((taken > 0, taken), else_=0.0)
    within = [func.coalesce(func.sum(case((taken <= bound, 1), else_=0)), 0) for bound in bounds]
    return [func.count(taken), func.coalesce(func.sum(positive), 0.0), *within]


def _durations(row: Sequence[Any], bounds: tuple[float, ...]) -> Durations:
    within = tuple((bound, int(row[2 + index])) for index, bound in enumerate(bounds))
    return Durations(within, int(row[0]), float(row[1]))
