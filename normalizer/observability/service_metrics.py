"""The service's counters for Prometheus, as the metric catalog declares them.

Each counter starts at zero for all of its label values. If a series appeared only with its first
event, an alert on its increase would miss that event.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)

from normalizer.observability.metric_catalog import METRICS, SQLSTATE_CLASSES, STAGE_LABELS

disable_created_metrics()  # type: ignore[no-untyped-call]

_BY_NAME: Final = {metric.name: metric for metric in METRICS}


class ServiceMetrics:
    """Counters that are updated per batch. Any thread may read them."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.outcomes = self._counter("normalizer_outcomes_total")
        self.coercions = self._counter("normalizer_coercions_total")
        self.quarantined = self._counter("normalizer_quarantined_total")
        self.expired_unread = self._counter("normalizer_expired_unread_total")
        self.drift = self._counter("normalizer_drift_total")
        self.drift_found = self._counter("normalizer_drift_found_total")
        self.batches = self._counter("normalizer_batches_total")
        self.stage_seconds = self._counter("normalizer_stage_seconds_total")
        self.retries = self._counter("normalizer_retries_total")
        self.batch_rows = self._histogram("normalizer_batch_rows")
        self.commit_seconds = self._histogram("normalizer_commit_seconds")
        self._stages = {stage: self.stage_seconds.labels(stage=stage) for stage in STAGE_LABELS}

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Add time to a stage."""
        self._stages[stage].inc(seconds)

    def count_retry(self, sqlstate: str | None) -> None:
        """Count a failed attempt."""
        code = sqlstate or "none"
        found = code if code in SQLSTATE_CLASSES else code[:2]
        self.retries.labels(sqlstate_class=found if found in SQLSTATE_CLASSES else "other").inc()

    def _counter(self, name: str) -> Counter:
        metric = _BY_NAME[name]
        made = Counter(name, metric.means, [*metric.labels], registry=self.registry)
        for values in product(*metric.labels.values()) if metric.labels else ():
            made.labels(*values)
        return made

    def _histogram(self, name: str) -> Histogram:
        metric = _BY_NAME[name]
        return Histogram(name, metric.means, buckets=metric.buckets, registry=self.registry)


def metric_family(name: str, values: Mapping[Sequence[str], float | None]) -> Family:
    """Build a metric that has a value for each tuple of label values.

    The tuples have the labels in the metric's order. None means that the value is unknown. It isn't
    exported, because a 0 would look like a measured value.
    """
    metric = _BY_NAME[name]
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    made = kind(name, metric.means, labels=[*metric.labels])
    for labels, value in values.items():
        if value is not None:
            made.add_metric([*labels], value)
    return made
