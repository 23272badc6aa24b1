"""The service's counters for Prometheus, as the metric catalog declares them.

Each counter starts at zero for all of its label values. If a series appeared only with its first
event, an alert on its increase would miss that event. Only for shapes that an operator's table
adds, counters are created with the first event.

The rows of a transaction are counted only after its commit, so the counters never include rows that
were rolled back.
"""

import collections
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
    Metric as Family,
)

from normalizer.core.coercions import read_coercions
from normalizer.observability.metric_catalog import (
    METRICS,
    NO_SHAPE_LABEL,
    SQLSTATE_CLASSES,
    STAGES,
)
from normalizer.store.committed_batch import CommittedBatch

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
        self._stages = {stage: self.stage_seconds.labels(stage=stage) for stage in STAGES}

    def add_stage_seconds(self, stage: str, seconds: float) -> None:
        """Add time to a stage."""
        self._stages[stage].inc(seconds)

    def count_retry(self, sqlstate: str | None) -> None:
        """Count a failed attempt."""
        code = sqlstate or "none"
        found = code if code in SQLSTATE_CLASSES else code[:2]
        self.retries.labels(sqlstate_class=found if found in SQLSTATE_CLASSES else "other").inc()

    def count_commit(
        self, written: CommittedBatch, exemplar: Mapping[str, str] | None = None
    ) -> None:
        """Count the rows of a committed transaction. `exemplar` has the ids of its span."""
        totals = written.totals
        labels = None if exemplar is None else {**exemplar}
        self.batch_rows.observe(totals.outcomes, labels)
        self.commit_seconds.observe(written.commit_s, labels)
        self.expired_unread.inc(written.expired_unread)
        outcomes: collections.Counter[tuple[str, str]] = collections.Counter(
            (event.shape, placed)
            for event, (placed, _) in zip(written.events, written.placements, strict=True)
        )
        outcomes[NO_SHAPE_LABEL, "ignored"] += totals.ignored
        for (_, rejected), is_new in zip(
            written.rejections, written.newly_quarantined, strict=True
        ):
            outcome = "quarantined" if is_new else "duplicate"
            outcomes[rejected.shape or NO_SHAPE_LABEL, outcome] += 1
            if is_new:
                self.quarantined.labels(reason=rejected.reason).inc()
        for (shape, outcome), count in outcomes.items():
            self.outcomes.labels(shape=shape, outcome=outcome).inc(count)
        rules = collections.Counter(
            coercion.rule
            for row in written.inserted
            if row.coercions is not None
            for coercion in read_coercions(row.coercions)
        )
        rules["ambiguous_report"] += written.ambiguous
        for rule, count in rules.items():
            self.coercions.labels(rule=rule).inc(count)

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
