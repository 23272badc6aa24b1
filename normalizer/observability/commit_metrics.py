"""Counts the rows of each committed transaction by wire shape, outcome, reason, and rule.

Rows are counted only after the commit, so the counters never include rows that were rolled back.
They're counted in one or two passes over the batch, to take little time.
"""

from collections import Counter
from collections.abc import Mapping
from operator import attrgetter, itemgetter
from typing import Final

from normalizer.core.coercions import read_coercions
from normalizer.core.shapes import SHAPES
from normalizer.envelope import COERCION_RULES
from normalizer.errors import REASONS
from normalizer.observability.metric_catalog import NO_SHAPE_LABEL, OUTCOME_LABELS
from normalizer.observability.service_metrics import ServiceMetrics
from normalizer.store.write_transaction import CommittedBatch

_get_shape: Final = attrgetter("shape")
_get_placed: Final = itemgetter(0)


class CommitMetrics:
    """Counts the rows of each transaction."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics
        # Create the counters of our own shapes at once, so that they start at 0. For shapes that an
        # operator's table adds, they're created with the first event.
        for shape in (*SHAPES, NO_SHAPE_LABEL):
            for outcome in OUTCOME_LABELS:
                metrics.outcomes.labels(shape=shape, outcome=outcome)
        self._reasons = {reason: metrics.quarantined.labels(reason=reason) for reason in REASONS}
        self._rules = {str(rule): metrics.coercions.labels(rule=rule) for rule in COERCION_RULES}

    def count(self, written: CommittedBatch, exemplar: Mapping[str, str] | None = None) -> None:
        """Count a committed batch. `exemplar` has the ids of its span."""
        metrics, totals = self._metrics, written.totals
        labels = None if exemplar is None else {**exemplar}
        metrics.batch_rows.observe(totals.outcomes, labels)
        metrics.commit_seconds.observe(written.commit_s, labels)
        metrics.expired_unread.inc(written.expired_unread)
        counts: Counter[tuple[str, str]] = Counter(
            zip(map(_get_shape, written.events), map(_get_placed, written.placements), strict=True)
        )
        counts[NO_SHAPE_LABEL, "ignored"] += totals.ignored
        for (_, rejected), is_new in zip(
            written.rejections, written.newly_quarantined, strict=True
        ):
            counts[rejected.shape or NO_SHAPE_LABEL, "quarantined" if is_new else "duplicate"] += 1
            if is_new:
                self._reasons[rejected.reason].inc()
        for (shape, outcome), count in counts.items():
            metrics.outcomes.labels(shape=shape, outcome=outcome).inc(count)
        for row in written.inserted:
            if row.coercions is not None:
                for coercion in read_coercions(row.coercions):
                    self._rules[coercion.rule].inc()
        self._rules["ambiguous_report"].inc(written.ambiguous)
