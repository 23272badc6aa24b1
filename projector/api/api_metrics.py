"""What the API says to Prometheus: of itself, and of the log, for the normalizer may be dead."""

from collections import Counter as Tally
from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


STATES: Final = (
    *("caught_up", "reading", "behind", "dead", "broker_away", "stopped", "unclaimed", "file"),
)
"""What `state` of projector.freshness may say."""


class ApiMetrics:
    """A registry of one app's own."""

    def __init__(self) -> None:
        self._registry: Final = CollectorRegistry()
        self.requests: Final = Counter(
            "projector_api_requests",
            "Requests by question and status. 5xx rising: read `reason` in an answer, and the log.",
            ["endpoint", "status"],
            registry=self._registry,
        )
        self.seconds: Final = Histogram(
            "projector_api_query_seconds",
            "Seconds in the database, by question. Near the statement time-out: ask for less.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.cached: Final = Counter(
            "projector_api_cache_hits",
            "Requests that were given the answer of another one within the last second.",
            registry=self._registry,
        )
        self.connections: Final = Gauge(
            "projector_api_connections_in_use",
            "Database connections that answer a question now. At the pool's size: requests wait.",
            registry=self._registry,
        )

        self.partitions: Final = Gauge(
            "projector_partitions",
            "Partitions of the log by state, as view freshness says; the last known where the "
            "database does not answer. dead: no normalizer reads them.",
            ["state"],
            registry=self._registry,
        )
        self.set_partition_states(())

    def set_partition_states(self, states: Sequence[str]) -> None:
        """How the partitions stand now."""
        counts = Tally(states)
        for state in STATES:
            self.partitions.labels(state).set(counts[state])

    def text(self) -> bytes:
        """For a scrape."""
        return generate_latest(self._registry)
