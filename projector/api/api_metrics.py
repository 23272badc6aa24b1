"""Metrics of the API, of outcomes, and of the partitions: when the normalizer is dead, too."""

from collections import Counter as Tally
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from projector.api.outcome_metrics import OutcomeMetrics
from projector.api.thresholds import DEFAULT, Thresholds

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


STATES: Final = (
    *("caught_up", "reading", "behind", "dead", "broker_away", "stopped", "unclaimed", "file"),
)
"""The values of `state` in projector.freshness."""


class ApiMetrics:
    """The metrics of one app, in a registry of its own."""

    def __init__(self, thresholds: Thresholds = DEFAULT) -> None:
        self._registry: Final = CollectorRegistry()
        self._named: Final = CollectorRegistry()
        self.outcomes: Final = OutcomeMetrics(self._registry, self._named, thresholds)
        self.requests: Final = Counter(
            "projector_api_requests",
            "Requests by endpoint and status. If 5xx rises, read `reason` of a response.",
            ["endpoint", "status"],
            registry=self._registry,
        )
        self.seconds: Final = Histogram(
            "projector_api_query_seconds",
            "Seconds in the database, by endpoint. Near the statement timeout: request less data.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.cached: Final = Counter(
            "projector_api_cache_hits",
            "Requests that shared a response of the last second, or one that was being made.",
            registry=self._registry,
        )
        self.connections: Final = Gauge(
            "projector_api_connections_in_use",
            "Database connections in use now. At the size of the pool, requests wait.",
            registry=self._registry,
        )

        self.partitions: Final = Gauge(
            "projector_partitions",
            "Partitions of the log by state, from the view freshness; the last known ones if the "
            "database does not answer. dead: no normalizer reads them.",
            ["state"],
            registry=self._registry,
        )
        self.set_partition_states(())

    def set_partition_states(self, states: Sequence[str]) -> None:
        """Set the number of partitions in each state."""
        counts = Tally(states)
        for state in STATES:
            self.partitions.labels(state).set(counts[state])

    def text(self, *, named: bool = True) -> bytes:
        """The response to a scrape; `named`: with metrics that have names of steps."""
        return generate_latest(self._registry) + (generate_latest(self._named) if named else b"")
