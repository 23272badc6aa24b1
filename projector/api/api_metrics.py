"""The metrics of `projector serve`: its requests, the outcomes of calls, and the partitions.

The metrics of partitions also show whether the normalizer works. A dead normalizer exports no
metrics of its own, but its partitions still appear here, with the state `dead`.
"""

import math
import time
from collections import Counter as Tally
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from projector.api.outcome_metrics import OutcomeMetrics
from projector.api.queries import current_state
from projector.api.snapshots import Snapshot
from projector.api.thresholds import DEFAULT_THRESHOLDS, Thresholds

METRICS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


PARTITION_AND_LOG_STATES: Final = (
    *("caught_up", "reading", "behind", "dead", "broker_away", "stopped", "unclaimed"),
)
"""The values of `state` in projector.freshness."""


class ApiMetrics:
    """The metrics of one app, in its own registry."""

    def __init__(self, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> None:
        self._registry: Final = CollectorRegistry()
        self._named: Final = CollectorRegistry()
        self.outcomes: Final = OutcomeMetrics(self._registry, self._named, thresholds)
        self.requests: Final = Counter(
            "projector_api_requests",
            "Requests by endpoint and status. If 5xx rises, read the `reason` in a response.",
            ["endpoint", "status"],
            registry=self._registry,
        )
        self.seconds: Final = Histogram(
            "projector_api_query_seconds",
            "Seconds in the database, by endpoint. If they get near --timeout, request less data.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.cached: Final = Counter(
            "projector_api_cache_hits",
            "Requests that shared a response of the last second, or one in progress.",
            registry=self._registry,
        )
        self.connections: Final = Gauge(
            "projector_api_connections_in_use",
            "Database connections in use now. At the size of the pool, requests wait.",
            registry=self._registry,
        )
        self.partitions: Final = Gauge(
            "projector_partitions",
            "Partitions of the log by state, from the view freshness, or the last known ones if "
            "the database does not answer. dead: no normalizer reads them.",
            ["state"],
            registry=self._registry,
        )
        self._figures_read_at_s = -math.inf
        figures_age = Gauge(
            "projector_figures_age_seconds",
            "Seconds since a scrape last read all figures about partitions and outcomes, or +Inf "
            "if none has yet. Until the next one, alerts about them see nothing new.",
            registry=self._registry,
        )
        figures_age.set_function(lambda: time.monotonic() - self._figures_read_at_s)

    async def refresh(self, snapshot: Snapshot) -> None:
        """Read the figures about partitions and outcomes. Those that fail stay as they are.

        Raises ApiError.
        """
        counts = Tally(await current_state.partition_states(snapshot))
        for state in PARTITION_AND_LOG_STATES:
            self.partitions.labels(state).set(counts[state])
        await self.outcomes.refresh(snapshot)
        self._figures_read_at_s = time.monotonic()

    def text(self, *, named: bool = True) -> bytes:
        """Return the response to a scrape. `named` includes metrics with names of steps."""
        return generate_latest(self._registry) + (generate_latest(self._named) if named else b"")
