"""The spans of a batch, in memory: their links, their names, what a failure says."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import (
    db_attributes,
    error_attributes,
    messaging_attributes,
    server_attributes,
)
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from normalizer.config.settings import Settings
from normalizer.core.batch import Batch, OutcomeTotals, PartitionBatch, RecordWithOutcomes
from normalizer.errors import FencedError, StoreUnavailableError
from normalizer.observability.batch_spans import BatchTracer
from normalizer.observability.producer_spans import choose_producer_span_links
from normalizer.observability.span_attributes import OTEL_SCHEMA_URL
from normalizer.observability.tracer import NoopTracer
from normalizer.observability.tracing import open_tracing, otel_header_secrets
from normalizer.store.committed_batch import CommittedBatch
from tests.support.factories import envelope, raw_record

SETTINGS = Settings(database_url="postgresql://writer:hunter2@db:6432/noetl")
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


class Traced:
    """Spans of one process, and those that have ended."""

    def __init__(self, settings: Settings = SETTINGS, sampler: Any = sampling.ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        limits = SpanLimits(max_links=4)
        provider = TracerProvider(sampler=sampler, span_limits=limits, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.spans = BatchTracer(settings, provider, limits)

    def ended(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    made.spans.begin_filling_batch()
    yield made
    made.spans.close()


def parent(trace: int, span: int = 1, flags: str = "01") -> str:
    return f"00-{trace:032x}-{span:016x}-{flags}"


def make_part(partition: int, sent: Sequence[str | None], topic: str = "noetl.events") -> Any:
    items: list[RecordWithOutcomes] = [
        (
            raw_record(
                offset,
                headers=() if text is None else (("Traceparent", text.encode()),),
                partition=partition,
            ),
            (envelope(offset),),
        )
        for offset, text in enumerate(sent)
    ]
    return PartitionBatch(
        topic=topic,
        incarnation=0,
        partition=partition,
        epoch=1,
        from_offset=0,
        next_offset=len(items),
        items=items,
    )


def linked(
    sent: Sequence[str | None], limit: int | None = 128
) -> tuple[list[tuple[int, int]], int]:
    links, left_out = choose_producer_span_links(Batch(parts=(make_part(0, sent),)), limit)
    return [(link.context.trace_id, link.context.span_id) for link in links], left_out


def committed(**fields: Any) -> CommittedBatch:
    batch = CommittedBatch(
        events=[],
        inserted=[],
        placements=[],
        rejections=[],
        newly_quarantined=[],
        totals=OutcomeTotals(stored=2),
        expired_unread=0,
    )
    return msgspec.structs.replace(batch, **fields)


def test_every_span_of_a_producer_is_linked_once() -> None:
    assert linked([parent(1), None, parent(1, 2), parent(1), "00-aa", parent(3, 0)]) == (
        [(1, 1), (1, 2)],
        0,
    )


def test_links_that_are_left_out_are_counted_on_the_span(traced: Traced) -> None:
    with traced.spans.begin_filling_batch()(
        Batch(parts=(make_part(0, [parent(n) for n in range(1, 8)]),))
    ):
        pass

    batch = traced.ended()["process noetl.events"]
    assert len(batch.links) == 4
    assert batch.attributes
    assert batch.attributes["normalizer.links_left_out"] == 3


def test_a_commit_is_below_the_write_and_its_ids_are_an_exemplar(traced: Traced) -> None:
    with traced.spans.begin_filling_batch()(Batch(parts=(make_part(0, [None]),))):
        ids = traced.spans.note_commit(committed(commit_s=0.5, batch_id=17))

    ended = traced.ended()
    write, commit = ended["write normalizer.events"], ended["COMMIT noetl"]
    assert commit.parent
    assert commit.parent.span_id == write.context.span_id
    assert ids == {
        "trace_id": f"{commit.context.trace_id:032x}",
        "span_id": f"{commit.context.span_id:016x}",
    }
    assert commit.attributes
    assert commit.attributes["normalizer.batch_id"] == 17
    assert commit.attributes["server.address"] == "db"
    assert commit.attributes["server.port"] == 6432
    assert commit.start_time
    assert commit.end_time == commit.start_time + 500_000_000
    assert "hunter2" not in str([span.to_json() for span in ended.values()])


def test_a_failed_try_is_an_event_and_a_lost_batch_is_an_error(traced: Traced) -> None:
    lost = FencedError("fenced: noetl.events[0]", topic="noetl.events", partition=0)
    with (
        contextlib.suppress(FencedError),
        traced.spans.begin_filling_batch()(Batch(parts=(make_part(0, [None]),))),
    ):
        traced.spans.note_failure(StoreUnavailableError("database: away", sqlstate="57P01"))
        raise lost

    ended = traced.ended()
    write, batch = ended["write normalizer.events"], ended["process noetl.events"]
    (event,) = write.events
    assert (event.name, event.attributes) == (
        "retry",
        {"error.type": "StoreUnavailableError", "db.response.status_code": "57P01"},
    )
    for span in (write, batch):
        assert span.status.status_code == StatusCode.ERROR
        assert span.status.description == "fenced: noetl.events[0]"
        assert span.attributes
        assert span.attributes["error.type"] == "FencedError"


def test_an_error_of_a_library_is_named_and_its_text_is_not_sent(traced: Traced) -> None:
    with (
        pytest.raises(ValueError, match="content"),
        traced.spans.begin_filling_batch()(Batch(parts=(make_part(0, [None]),))),
    ):
        raise ValueError("content of a record")

    assert "content of a record" not in str([span.to_json() for span in traced.ended().values()])


@pytest.mark.parametrize(
    "settings", [SETTINGS, Settings(kafka_bootstrap_servers=("kafka:9092",))], ids=["db", "relay"]
)
def test_the_names_of_attributes_are_those_of_the_conventions(settings: Settings) -> None:
    modules = (db_attributes, error_attributes, messaging_attributes, server_attributes)
    known = {value for module in modules for value in vars(module).values() if str(value) == value}
    traced = Traced(settings)
    in_spans = traced.spans.begin_filling_batch()
    traced.spans.note_stage("fetch", 1.0)
    traced.spans.note_stage("normalize", 1.0)
    batch = Batch(parts=(make_part(0, [parent(1)]),))
    with contextlib.suppress(StoreUnavailableError), in_spans(batch):
        traced.spans.note_commit(committed())
        raise StoreUnavailableError("away", sqlstate="57P01")

    ended = traced.ended().values()
    used = {name for span in ended for name in span.attributes or ()}
    used |= {name for span in ended for link in span.links for name in link.attributes or ()}
    assert len(ended) == 5
    assert {name for name in used if not name.startswith("normalizer.")} <= known
    assert Schemas.V1_44_0.value == OTEL_SCHEMA_URL


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys; import normalizer.cli; from normalizer.config.settings import Settings;"
        "from normalizer.consumer.service import Service;"
        "from normalizer.observability.tracer import NoopTracer\n"
        "from normalizer.observability.tracing import open_tracing\n"
        "with open_tracing(Settings(), {}) as tracer: assert type(tracer) is NoopTracer\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout == "[]\n"


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"}, None),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, None),
        (
            ENDPOINT | {"OTEL_TRACES_EXPORTER": "zipkin"},
            (
                "OTEL_TRACES_EXPORTER: expected otlp or none; got 'zipkin': set "
                "OTEL_TRACES_EXPORTER=otlp, or none to turn tracing off"
            ),
        ),
        (
            ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf; got 'grpc': set "
                "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, and in the endpoint the collector's "
                "port for HTTP, which is 4318 by default"
            ),
        ),
    ],
)
def test_disabled_tracing_is_logged_once_unless_wanted(
    variables: dict[str, str], why: str | None
) -> None:
    with capture_logs() as lines, open_tracing(SETTINGS, variables) as tracer:
        assert type(tracer) is NoopTracer

    assert [(line["event"], line["why"]) for line in lines] == (
        [("tracing.off", why)] if why else []
    )


def test_keys_in_the_headers_of_the_exporter_are_secrets() -> None:
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20abc=,x=hunter2, broken"}

    assert otel_header_secrets(environ) == ("Basic%20abc=", "hunter2")
