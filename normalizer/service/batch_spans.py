"""Makes the spans of batches, and sends them by OTLP over HTTP; the only importer of OpenTelemetry.

    process TOPIC                  CONSUMER, with links to the spans that produced its records
      poll TOPIC                   from the first record's fetch to the last fetch
      normalize
      write normalizer.events      with each failed try as an event; `send` where the relay writes
        COMMIT                     one for each transaction

Source: OpenTelemetry semantic conventions 1.44: messaging, Kafka, database, PostgreSQL.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

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
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    use_span,
)
from structlog.contextvars import bound_contextvars

from normalizer.core.batch import Batch
from normalizer.errors import RetryableError, StoreUnavailable
from normalizer.service.gauges import VERSION
from normalizer.service.producer_spans import producer_spans
from normalizer.service.tracing import Untraced
from normalizer.settings import Settings
from normalizer.store.store import CommittedBatch
from normalizer.telemetry import describe_error, get_logger

SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
FLUSH_S: Final = 3.0
"""How long the end of the process waits for the last spans: a part of the pod's grace period."""
_FILLING: Final = ("fetch", "normalize")
"""The stages that fill a batch; the others are of the batch before it."""
_KAFKA: Final = {"messaging.system": "kafka"}

_log: Final = get_logger()


def open_spans(settings: Settings) -> "BatchSpans":
    """Spans that are sent as OTEL_* say. Raises what the SDK raises for values it cannot read."""
    own = {
        "service.name": "normalizer",
        "service.version": VERSION,
        "service.instance.id": settings.owner,
    }
    limits = SpanLimits()
    provider = TracerProvider(
        resource=Resource.create(own).merge(OTELResourceDetector().detect()),
        span_limits=limits,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return BatchSpans(settings, provider, limits)


class BatchSpans(Untraced):
    """The spans of the batches of one process; a batch has five, and no more with its size."""

    def __init__(self, settings: Settings, provider: TracerProvider, limits: SpanLimits) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("normalizer", VERSION, schema_url=SCHEMA)
        self._max_links = limits.max_links
        self._building: dict[int, _Stages] = {}
        self._consumer = {
            **_KAFKA,
            "messaging.consumer.group.name": settings.kafka_group_id,
            "messaging.client.id": settings.kafka_client_id,
        }
        self._sink = _postgres(settings.database_url) if settings.database_url else _relay(settings)

    def begin(self, writer: int) -> None:
        """The writer begins to fill a batch."""
        self._building[writer] = _Stages()

    def note(self, writer: int, stage: str, seconds: float) -> None:
        """The writer has just worked on that batch for so long."""
        if stage in _FILLING:
            self._building[writer].note(stage, seconds)

    def batch(self, writer: int, batch: Batch) -> AbstractContextManager[None]:
        """The block in which the batch is written; its spans end with it."""
        return self._in_spans(batch, self._building[writer])

    def failed(self, error: RetryableError) -> None:
        """Add an event to the current span."""
        get_current_span().add_event("retry", _error_attributes(error))

    def committed(self, written: CommittedBatch) -> Mapping[str, str] | None:
        """Make the span of a commit that has just ended; give the ids of it."""
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
        """Send what is not sent yet; what FLUSH_S is too short for is lost."""
        closing = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        closing.start()
        closing.join(FLUSH_S)
        if closing.is_alive():
            _log.warning(
                "spans_not_sent", why=f"the collector did not take them in {FLUSH_S:.0f} s"
            )

    @contextlib.contextmanager
    def _in_spans(self, batch: Batch, stages: "_Stages") -> Iterator[None]:
        where = _destination(batch)
        topic = where.get("messaging.destination.name")
        root = self._tracer.start_span(
            f"process {topic}" if topic else "process",
            context=Context(),
            kind=SpanKind.CONSUMER,
            attributes={**self._consumer, **where, **_operation("process")},
            start_time=stages.begun_ns(),
        )
        if not root.is_recording():
            yield
            return
        self._describe(root, batch)
        parent = set_span_in_context(root, Context())
        if polled := stages.of("fetch"):
            attributes = {**self._consumer, **where, **_operation("receive", "poll")}
            polled.span(self._tracer, f"poll {topic}" if topic else "poll", parent, attributes)
        if normalized := stages.of("normalize"):
            normalized.span(self._tracer, "normalize", parent, {})
        write = self._tracer.start_span(
            self._sink.name, context=parent, kind=self._sink.kind, attributes=self._sink.write
        )
        with bound_contextvars(**_ids(write)), _current(write):
            try:
                yield
            except BaseException as error:
                for span in (write, root):
                    span.set_status(Status(StatusCode.ERROR, describe_error(error)))
                    span.set_attributes(_error_attributes(error))
                raise
            finally:
                write.end()
                root.end()

    def _describe(self, root: Span, batch: Batch) -> None:
        """Say which records the batch holds, and link the spans that produced them."""
        root.set_attributes(
            {
                "messaging.batch.message_count": sum(len(part.items) for part in batch.parts),
                "normalizer.offsets": [
                    f"{part.topic}[{part.partition}]@{part.from_offset}-{part.next_offset - 1}"
                    for part in batch.parts
                ],
            }
        )
        links, left_out = producer_spans(batch, self._max_links)
        for link in links:
            root.add_link(link.context, link.attributes)
        if left_out:
            root.set_attribute("normalizer.links_left_out", left_out)


class _Interval:
    """When a stage of a batch began and ended, and how much of that time it worked."""

    def __init__(self, seconds: float) -> None:
        self.end_ns = time.time_ns()
        self.begin_ns = self.end_ns - round(seconds * 1e9)
        self.busy_s = seconds

    def extend(self, later: "_Interval") -> None:
        self.end_ns = later.end_ns
        self.busy_s += later.busy_s

    def span(self, tracer: Tracer, name: str, parent: Context, attributes: dict[str, Any]) -> None:
        kind = SpanKind.CLIENT if attributes else SpanKind.INTERNAL
        attributes = {**attributes, "normalizer.busy_seconds": round(self.busy_s, 6)}
        span = tracer.start_span(
            name, context=parent, kind=kind, attributes=attributes, start_time=self.begin_ns
        )
        span.end(self.end_ns)


class _Stages:
    """The stages of a batch that is being filled."""

    def __init__(self) -> None:
        self._intervals: dict[str, _Interval] = {}

    def note(self, stage: str, seconds: float) -> None:
        """A stage has just worked for so long.

        The first fetch that counts is the one whose records were normalized first: those before it
        found nothing.
        """
        interval = _Interval(seconds)
        earlier = self._intervals.get(stage)
        if earlier is None or (stage == "fetch" and "normalize" not in self._intervals):
            self._intervals[stage] = interval
        else:
            earlier.extend(interval)

    def of(self, stage: str) -> _Interval | None:
        """The stage; None if the batch had none."""
        return self._intervals.get(stage)

    def begun_ns(self) -> int:
        """When the batch began."""
        return min((one.begin_ns for one in self._intervals.values()), default=time.time_ns())


class _Sink(NamedTuple):
    """Names and attributes of the spans that write, and that commit."""

    name: str
    kind: SpanKind
    write: dict[str, Any]
    commit_name: str
    commit: dict[str, Any]


def _postgres(database_url: str) -> _Sink:
    parts = urlsplit(database_url)
    database = unquote(parts.path.lstrip("/"))
    common: dict[str, Any] = {"db.system.name": "postgresql"}
    if database:
        common["db.namespace"] = database
    if parts.hostname and "," not in parts.netloc:
        common |= {"server.address": parts.hostname, "server.port": parts.port or 5432}
    table = "normalizer.events"
    return _Sink(
        f"write {table}",
        SpanKind.CLIENT,
        {**common, "db.operation.name": "write", "db.collection.name": table},
        f"COMMIT {database}".rstrip(),
        {**common, "db.operation.name": "COMMIT"},
    )


def _relay(settings: Settings) -> _Sink:
    topic = settings.kafka_canonical_topic
    common = {
        **_KAFKA,
        "messaging.destination.name": topic,
        "messaging.client.id": settings.kafka_client_id,
    }
    return _Sink(
        f"send {topic}",
        SpanKind.PRODUCER,
        {**common, **_operation("send")},
        f"commit {topic}",
        {**common, **_operation("send", "commit")},
    )


def _operation(kind: str, name: str = "") -> dict[str, str]:
    return {"messaging.operation.type": kind, "messaging.operation.name": name or kind}


def _destination(batch: Batch) -> dict[str, str]:
    """Topic and partition, each if it is the same for the whole batch."""
    topics = {part.topic for part in batch.parts}
    partitions = {(part.topic, part.partition) for part in batch.parts}
    where = {}
    if len(topics) == 1:
        where["messaging.destination.name"] = batch.parts[0].topic
    if len(partitions) == 1:
        where["messaging.destination.partition.id"] = str(batch.parts[0].partition)
    return where


def _error_attributes(error: BaseException) -> dict[str, str]:
    attributes = {"error.type": type(error).__name__}
    if isinstance(error, StoreUnavailable) and error.sqlstate:
        attributes["db.response.status_code"] = error.sqlstate
    return attributes


def _current(span: Span) -> AbstractContextManager[Span]:
    """A block in which the span is the current one; what is raised in it is not read."""
    return use_span(span, record_exception=False, set_status_on_exception=False)


def _ids(span: Span) -> dict[str, str]:
    context = span.get_span_context()
    return {
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
    }
