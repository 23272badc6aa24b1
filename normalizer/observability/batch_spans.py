"""Makes the spans of batches, and sends them with OTLP over HTTP.

A batch has these spans. The indented ones are children of the span above them.

    process TOPIC                  CONSUMER, with links to the spans that produced its records
      poll TOPIC                   from the first record's fetch to the last fetch
      normalize
      write normalizer.events      with each failed try as an event; `send` where the relay writes
        COMMIT                     one for each transaction

Only this module, `producer_spans`, and `span_attributes` import OpenTelemetry, which is an
extra. Use `tracing` to open a tracer.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer as SpanMaker,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    use_span,
)
from structlog.contextvars import bound_contextvars

from normalizer.config.passwords import mask_url_passwords
from normalizer.config.settings import Settings
from normalizer.core.batch import Batch
from normalizer.errors import RetryableError
from normalizer.kafka import CLIENT_ID
from normalizer.observability.producer_spans import choose_producer_span_links
from normalizer.observability.span_attributes import (
    KAFKA_ATTRIBUTES,
    OTEL_SCHEMA_URL,
    describe_postgres_sink,
    describe_relay_sink,
    destination_attributes,
    error_attributes,
    operation_attributes,
)
from normalizer.observability.tracer import MakeWriteSpans
from normalizer.runtime.logging_setup import describe_error_without_secrets, get_logger
from normalizer.runtime.version import VERSION
from normalizer.store.committed_batch import CommittedBatch

_FLUSH_TIMEOUT_S: Final = 3.0
"""How long the process waits for the last spans when it ends. That's a part of the pod's grace
period."""
_FILLING: Final = ("fetch", "normalize")
"""The stages in which a batch is filled. The other stages belong to the batch before it."""

_log: Final = get_logger()


def open_otlp_tracer(settings: Settings) -> "BatchTracer":
    """Open a tracer as the OTEL_* variables configure it.

    Raises the SDK's errors for values that it can't read.
    """
    own = {
        "service.name": "normalizer",
        "service.version": VERSION,
        "service.instance.id": settings.process_name,
    }
    limits = SpanLimits()
    provider = TracerProvider(
        resource=Resource.create(own).merge(OTELResourceDetector().detect()),
        span_limits=limits,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return BatchTracer(settings, provider, limits)


class BatchTracer:
    """The Tracer that makes spans. A batch has about five spans, whatever its size."""

    def __init__(self, settings: Settings, provider: TracerProvider, limits: SpanLimits) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("normalizer", VERSION, schema_url=OTEL_SCHEMA_URL)
        self._max_links = limits.max_links
        self._building = _Stages()
        self._consumer = {
            **KAFKA_ATTRIBUTES,
            "messaging.consumer.group.name": settings.kafka_group_id,
            "messaging.client.id": CLIENT_ID,
        }
        self._sink = (
            describe_postgres_sink(settings.database_url)
            if settings.database_url
            else describe_relay_sink(settings)
        )

    def begin_filling_batch(self) -> MakeWriteSpans:
        """Note that a batch begins to fill. The result returns the block in which to write it."""
        self._building = _Stages()
        return partial(self._in_spans, stages=self._building)

    def note_stage(self, stage: str, seconds: float) -> None:
        """Note that a stage of that batch has just taken this long."""
        if stage in _FILLING:
            self._building.note(stage, seconds)

    def note_failure(self, error: RetryableError) -> None:
        """Add an event to the current span."""
        get_current_span().add_event("retry", error_attributes(error))

    def note_commit(self, written: CommittedBatch) -> Mapping[str, str] | None:
        """Make the span of a commit that has just ended. Returns its ids."""
        if not get_current_span().is_recording():
            return None
        end_ns = time.time_ns()
        totals = written.totals
        commit = self._tracer.start_span(
            self._sink.commit_name,
            kind=SpanKind.CLIENT,
            attributes={
                **self._sink.commit,
                "normalizer.stored": totals.stored,
                "normalizer.duplicate": totals.duplicate,
                "normalizer.merged": totals.merged,
                "normalizer.quarantined": totals.quarantined,
                "normalizer.ignored": totals.ignored,
            },
            start_time=end_ns - round(written.commit_s * 1e9),
        )
        if written.batch_id is not None:
            commit.set_attribute("normalizer.batch_id", written.batch_id)
        commit.end(end_ns)
        return _ids(commit)

    def close(self) -> None:
        """Send unsent spans. If that takes longer than _FLUSH_TIMEOUT_S, the rest are lost."""
        closing = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        closing.start()
        closing.join(_FLUSH_TIMEOUT_S)
        if closing.is_alive():
            _log.warning(
                "tracing.spans_not_sent",
                why=f"the collector did not take them within {_FLUSH_TIMEOUT_S:.0f} s",
            )

    @contextlib.contextmanager
    def _in_spans(self, batch: Batch, stages: "_Stages") -> Iterator[None]:
        where = destination_attributes(batch)
        topic = where.get("messaging.destination.name")
        root = self._tracer.start_span(
            f"process {topic}" if topic else "process",
            context=Context(),
            kind=SpanKind.CONSUMER,
            attributes={**self._consumer, **where, **operation_attributes("process")},
            start_time=stages.begun_ns(),
        )
        if not root.is_recording():
            yield
            return
        self._describe(root, batch)
        parent = set_span_in_context(root, Context())
        if polled := stages.of("fetch"):
            attributes = {**self._consumer, **where, **operation_attributes("receive", "poll")}
            polled.span(self._tracer, f"poll {topic}" if topic else "poll", parent, attributes)
        if normalized := stages.of("normalize"):
            normalized.span(self._tracer, "normalize", parent, {})
        write = self._tracer.start_span(
            self._sink.name, context=parent, kind=self._sink.kind, attributes=self._sink.write
        )
        current = use_span(write, record_exception=False, set_status_on_exception=False)
        with bound_contextvars(**_ids(write)), current:
            try:
                yield
            except BaseException as error:
                why = mask_url_passwords(describe_error_without_secrets(error))
                for span in (write, root):
                    span.set_status(Status(StatusCode.ERROR, why))
                    span.set_attributes(error_attributes(error))
                raise
            finally:
                write.end()
                root.end()

    def _describe(self, root: Span, batch: Batch) -> None:
        """Add which records the batch has, and links to the spans that produced them."""
        root.set_attributes(
            {
                "messaging.batch.message_count": sum(len(part.items) for part in batch.parts),
                "normalizer.offsets": [
                    f"{part.topic}[{part.partition}]@{part.from_offset}-{part.next_offset - 1}"
                    for part in batch.parts
                ],
            }
        )
        links, left_out = choose_producer_span_links(batch, self._max_links)
        for link in links:
            root.add_link(link.context, link.attributes)
        if left_out:
            root.set_attribute("normalizer.links_left_out", left_out)


class _Interval:
    """When a stage of a batch began and ended, and how long it worked in that time."""

    def __init__(self, seconds: float) -> None:
        self.end_ns = time.time_ns()
        self.begin_ns = self.end_ns - round(seconds * 1e9)
        self.busy_s = seconds

    def extend(self, later: "_Interval") -> None:
        self.end_ns = later.end_ns
        self.busy_s += later.busy_s

    def span(
        self, tracer: SpanMaker, name: str, parent: Context, attributes: dict[str, Any]
    ) -> None:
        kind = SpanKind.CLIENT if attributes else SpanKind.INTERNAL
        attributes = {**attributes, "normalizer.busy_seconds": round(self.busy_s, 6)}
        span = tracer.start_span(
            name, context=parent, kind=kind, attributes=attributes, start_time=self.begin_ns
        )
        span.end(self.end_ns)


class _Stages:
    """The stages of a batch that's being filled."""

    def __init__(self) -> None:
        self._intervals: dict[str, _Interval] = {}

    def note(self, stage: str, seconds: float) -> None:
        """Note that a stage of the batch has just taken this long.

        A fetch may find no records, so several fetches may come before the first records. The stage
        `fetch` begins with the first fetch whose records were normalized, and earlier ones don't
        count.
        """
        interval = _Interval(seconds)
        earlier = self._intervals.get(stage)
        if earlier is None or (stage == "fetch" and "normalize" not in self._intervals):
            self._intervals[stage] = interval
        else:
            earlier.extend(interval)

    def of(self, stage: str) -> _Interval | None:
        """Return the stage, or None if the batch didn't have it."""
        return self._intervals.get(stage)

    def begun_ns(self) -> int:
        """Return when the batch began."""
        return min((one.begin_ns for one in self._intervals.values()), default=time.time_ns())


def _ids(span: Span) -> dict[str, str]:
    context = span.get_span_context()
    return {
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
    }
