"""The service's gauges for Prometheus, such as the lag, read at the moment of the scrape.

If a gauge's value is unknown, the response leaves the gauge out, because any number would look like
a measured value.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from normalizer.consumer.service import Service
from normalizer.envelope import RULES_VERSION
from normalizer.monitoring.lag import LagMonitor
from normalizer.observability.metric_catalog import JOB_KINDS, UNFINISHED_JOB_STATES
from normalizer.observability.service_metrics import metric_family
from normalizer.runtime.version import VERSION

_ValuesByName = dict[str, Mapping[Sequence[str], float | None]]
"""The values of each metric, by the values of its labels. None means unknown."""


class GaugeCollector(Collector):
    """The gauges, read at the moment of the scrape, and the totals of ServiceCounters."""

    def __init__(
        self,
        service: Service,
        lag_monitor: LagMonitor,
        *,
        reasons: Callable[[], Iterator[str]],
        degraded: Callable[[], Iterator[str]],
    ) -> None:
        self._service = service
        self._lag_monitor = lag_monitor
        self._reasons = reasons
        self._degraded = degraded

    def describe(self) -> list[Family]:
        """Return nothing, because registering this collector must not poll."""
        return []

    def collect(self) -> Iterator[Family]:
        """Yield every metric."""
        service, lag_monitor = self._service, self._lag_monitor
        lane = service.chunk_normalizer.lane
        core = "native" if lane and lane.is_on() else "python"
        values_by_name: _ValuesByName = {
            **{
                f"normalizer_{name}_total": {(): getattr(service.counters, name)}
                for name in ("records", "holes", "rebalances", "rejoins", "fenced", "gaps")
            },
            "normalizer_heartbeat_age_seconds": {(): service.heartbeat.age_s()},
            "normalizer_open_batch_seconds": {
                (): max(one.age_s() for one in service.in_flight_batches())
            },
            "normalizer_partitions": {
                (state,): count for state, count in service.count_partitions().items()
            },
            "normalizer_ready": {(): not any(self._reasons())},
            "normalizer_degraded": {(): any(self._degraded())},
            "normalizer_build_info": {(VERSION, str(RULES_VERSION), core): 1},
            "normalizer_lane_panics_total": {(): lane.panics if lane else 0},
            **_lag_values(lag_monitor),
            **(_database_values(lag_monitor) if lag_monitor.has_database else {}),
        }
        for name, values in values_by_name.items():
            yield metric_family(name, values)


def _lag_values(lag_monitor: LagMonitor) -> _ValuesByName:
    """Return the values of the metrics of lag, from the broker's reports and the positions."""
    now_s = time.time()
    lags = {
        (partition.topic, str(partition.partition)): one
        for partition, one in lag_monitor.lag_by_partition.items()
    }
    return {
        "normalizer_broker_up": {(): lag_monitor.broker_up},
        "normalizer_next_offset": {key: one.next_offset for key, one in lags.items()},
        "normalizer_lag_records": {key: one.lag_records for key, one in lags.items()},
        "normalizer_lag_seconds": {key: one.lag_s(now_s) for key, one in lags.items()},
        "normalizer_time_to_expiry_seconds": {
            key: one.time_to_expiry_s(now_s) for key, one in lags.items()
        },
        "normalizer_work_remaining_records": {(): lag_monitor.lag_records},
    }


def _database_values(lag_monitor: LagMonitor) -> _ValuesByName:
    """Return the values of the metrics that were read from the database."""
    rows, seconds = lag_monitor.divergent or (None, None)
    return {
        "normalizer_database_up": {(): lag_monitor.database_up},
        "normalizer_database_writable": {(): lag_monitor.writable},
        "normalizer_unverified_seconds": {
            (scope,): age_s for scope, age_s in lag_monitor.unverified_s.items()
        },
        "normalizer_divergent_rows": {(): rows},
        "normalizer_divergent_seconds": {(): seconds},
        "normalizer_jobs": {
            (kind, state): lag_monitor.jobs.get((kind, state), 0)
            for kind in JOB_KINDS
            for state in UNFINISHED_JOB_STATES
        },
        "normalizer_job_progress_ratio": {
            (kind,): ratio for kind, ratio in lag_monitor.progress.items()
        },
        "normalizer_oldest_snapshot_seconds": {(): lag_monitor.snapshot_s},
        "normalizer_missing_migrations": {(): len(lag_monitor.missing_migrations)},
    }
