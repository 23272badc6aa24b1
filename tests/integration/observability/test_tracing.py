"""A record's trace leads from its producer's span to the commit of its batch, over real OTLP."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from normalizer.config.settings import Settings
from normalizer.observability.tracing import open_tracing
from normalizer.relay.kafka_store import relay_stores
from tests.support.factories import raw_event
from tests.support.feed import Feed
from tests.support.otlp_endpoint import OtlpEndpoint, SentSpan, otlp_endpoint
from tests.support.relay_runs import output_topics, relay_settings, until_relayed
from tests.support.service_runs import (
    environment,
    running,
)
from tests.support.stack import Topic

ROOT = Path(__file__).parents[3]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PRODUCER_SPAN = "b7ad6b7169203331"
TRACEPARENT = ("traceparent", f"00-{TRACE}-{PRODUCER_SPAN}-01".encode())
KINDS = {"INTERNAL": 1, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}

pytestmark = pytest.mark.parametrize("topic", [1], indirect=True)


async def service_process(settings: Settings, **variables: str) -> asyncio.subprocess.Process:
    """`normalizer run` with variables of OpenTelemetry; its log is its standard output."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "normalizer", "run"),
        cwd=ROOT,
        env=environment(settings) | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def send_traced(producer: AIOKafkaProducer, topic: Topic, endpoint: OtlpEndpoint) -> None:
    """Send an event as another program does that is traced with OpenTelemetry's SDK."""
    provider = TracerProvider(resource=Resource({"service.name": "worker"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.url}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("worker")
    carrier: dict[str, str] = {}
    with tracer.start_as_current_span(f"send {topic.name}", kind=SpanKind.PRODUCER):
        TraceContextTextMapPropagator().inject(carrier)
        headers = [(name, value.encode()) for name, value in carrier.items()]
        event = msgspec.json.encode(raw_event(1))
        await producer.send_and_wait(topic.name, event, headers=headers)
    await asyncio.to_thread(provider.shutdown)


async def stopped(process: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    """Its log lines, after a stop in order within its grace."""
    process.send_signal(signal.SIGTERM)
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    lines = said.decode().splitlines()
    assert process.returncode == 0, lines
    return [msgspec.json.decode(line) for line in lines]


def linked_batch(endpoint: OtlpEndpoint, link: tuple[str, str]) -> SentSpan:
    """The one batch's span that links this producer's span."""
    (batch,) = [span for span in endpoint.named("process ") if link in span.links]
    return batch


async def test_a_trace_is_followed_from_the_producer_to_the_commit(feed: Feed) -> None:
    settings = feed.settings(log_level="debug")
    with otlp_endpoint() as endpoint:
        process = await service_process(
            settings,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.url,
            OTEL_EXPORTER_OTLP_HEADERS="x-key=hunter2",
            OTEL_SERVICE_NAME="events",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        )
        await send_traced(feed.producer, feed.topic, endpoint)
        await feed.until_read({0: 1})
        row = await feed.connection.fetchrow(
            "select batch_id, headers ->> 'traceparent' as sent from normalizer.events"
        )
        lines = await stopped(process)

    (sent,) = endpoint.named("send ")
    assert sent.resource["service.name"] == "worker"
    batch = linked_batch(endpoint, (sent.trace_id, sent.span_id))
    assert (batch.name, batch.kind, batch.parent_id) == (
        f"process {feed.name}",
        KINDS["CONSUMER"],
        "",
    )
    assert batch.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": feed.name,
        "messaging.destination.partition.id": "0",
        "messaging.consumer.group.name": settings.kafka_group_id,
        "messaging.client.id": "normalizer",
        "messaging.batch.message_count": 1,
        "normalizer.offsets": [f"{feed.name}[0]@0-0"],
    }
    assert batch.resource["service.name"] == "events"
    assert batch.resource["deployment.environment.name"] == "test"
    polled, normalized, written = endpoint.children(batch)
    assert [span.name for span in (polled, normalized, written)] == [
        f"poll {feed.name}",
        "normalize",
        "write normalizer.events",
    ]
    assert written.attributes["db.system.name"] == "postgresql"
    assert (
        written.attributes["db.namespace"] == feed.database.url.rpartition("/")[2].partition("?")[0]
    )
    (commit,) = endpoint.children(written)
    assert commit.attributes["db.operation.name"] == "COMMIT"
    assert commit.attributes["normalizer.stored"] == 1
    assert commit.attributes["normalizer.batch_id"] == row["batch_id"]
    assert commit.end_ns <= written.end_ns <= batch.end_ns
    assert batch.begin_ns <= polled.begin_ns <= normalized.begin_ns
    # The last fetch of a batch that is due may find nothing more.
    assert max(polled.end_ns, normalized.end_ns) <= written.begin_ns
    assert row["sent"].split("-")[1:3] == [sent.trace_id, sent.span_id]
    assert "hunter2" in {one.get("x-key") for one in endpoint.headers}
    assert "hunter2" not in str(lines)
    assert [line["endpoint"] for line in lines if line["event"] == "tracing.on"] == [endpoint.url]


async def test_the_relay_is_traced_by_the_same_loop(
    topic: Topic, bootstrap_servers: str, producer: AIOKafkaProducer, admin: AIOKafkaAdminClient
) -> None:
    settings = relay_settings(topic, bootstrap_servers)
    event = msgspec.json.encode(raw_event(1))
    await producer.send_and_wait(topic.name, event, headers=[TRACEPARENT])
    async with output_topics(admin, settings):
        with otlp_endpoint() as endpoint, pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.url)
            with open_tracing(settings, {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url}) as tracer:
                async with running(settings, open_stores=relay_stores, tracer=tracer):
                    await until_relayed(settings, {0: 1})

    batch = linked_batch(endpoint, (TRACE, PRODUCER_SPAN))
    *_, sent = endpoint.children(batch)
    assert (sent.name, sent.kind) == (
        f"send {settings.kafka_canonical_topic}",
        KINDS["PRODUCER"],
    )
    (commit,) = endpoint.children(sent)
    assert commit.name == f"commit {settings.kafka_canonical_topic}"


async def test_a_collector_that_hangs_delays_no_record_and_no_stop(feed: Feed) -> None:
    settings = feed.settings()
    open_streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    silent = await asyncio.start_server(
        lambda reader, writer: open_streams.append((reader, writer)), "127.0.0.1", 0
    )
    endpoint = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    process = await service_process(settings, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    await feed.send(range(5))
    await feed.until_read({0: 5})
    assert await feed.events() == 5
    began_s = asyncio.get_running_loop().time()

    lines = await stopped(process)

    assert asyncio.get_running_loop().time() - began_s < 15
    events = {line["event"] for line in lines}
    assert "tracing.spans_not_sent" in events
    assert events & {"process.ended", "consumer.deadline_passed"} == set()
    assert open_streams
    for _, writer in open_streams:
        writer.close()
    silent.close()
