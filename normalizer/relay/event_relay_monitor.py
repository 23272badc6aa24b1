"""Serves /metrics, /livez, and /readyz for the relay of stored events, from its own threads.

The relay of the raw topic doesn't use it. That relay runs the consumer, whose probes are served by
`MonitoringServer`.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from normalizer.config.settings import Settings
from normalizer.envelope import RULES_VERSION
from normalizer.monitoring.monitoring_server import MAX_HEARTBEAT_AGE_S
from normalizer.monitoring.probes import ProbeServer, Routes, probe_response
from normalizer.observability.service_metrics import metric_family
from normalizer.relay.event_relay import EventRelay
from normalizer.runtime.logging_setup import get_logger
from normalizer.runtime.version import VERSION

_LAG_SOURCE: Final = ("normalizer.events", "0")
"""The topic and partition under which the lag is reported. They stand for the table."""

_log: Final = get_logger()


@contextlib.contextmanager
def serve_monitoring(settings: Settings, relay: EventRelay) -> Iterator[ProbeServer]:
    """Serve the probes inside the block.

    Raises ConfigurationError if it can't listen at the address.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Gauges(relay))
    routes: Routes = {
        "/metrics": lambda: registry,
        "/livez": lambda: probe_response(
            {"heartbeat_age_s": relay.heartbeat.age_s()}, ok=_is_alive(relay)
        ),
        "/readyz": lambda: probe_response(
            {"waits_for": relay.why_waiting, "lag_s": relay.lag_s, "version": VERSION},
            ok=relay.why_waiting is None and _is_alive(relay),
        ),
    }
    with ProbeServer(settings.http_host, settings.http_port, routes) as probes:
        _log.info("relay.listening", url=probes.url)
        yield probes


class _Gauges(Collector):
    """The relay's counts, under the names of the service's metrics."""

    def __init__(self, relay: EventRelay) -> None:
        self._relay = relay

    def collect(self) -> Iterator[Family]:
        relay = self._relay
        yield metric_family("normalizer_outcomes_total", dict(relay.outcomes.items()))
        yield metric_family("normalizer_lag_seconds", {_LAG_SOURCE: relay.lag_s})
        yield metric_family("normalizer_heartbeat_age_seconds", {(): relay.heartbeat.age_s()})
        yield metric_family(
            "normalizer_ready", {(): relay.why_waiting is None and _is_alive(relay)}
        )
        build = (VERSION, str(RULES_VERSION), "python")
        yield metric_family("normalizer_build_info", {build: 1})


def _is_alive(relay: EventRelay) -> bool:
    return relay.heartbeat.age_s() < MAX_HEARTBEAT_AGE_S
