"""The real collector takes what the service sends, and passes it on as it is.

It is built from OpenTelemetry's own modules, which takes some minutes.
"""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from normalizer.embedded.ports import free_port
from tests.integration.test_tracing import (
    PRODUCER_SPAN,
    TRACE,
    TRACEPARENT,
    batch_of,
    service_process,
    stopped,
)
from tests.support.factories import raw_event
from tests.support.otlp_endpoint import otlp_endpoint
from tests.support.service_runs import settings_for, until, watching
from tests.support.stack import Database, Topic

VERSION: Final = "v0.165.0"
_PARTS: Final = f"""
dist: {{name: collector, output_path: .}}
receivers: [{{gomod: go.opentelemetry.io/collector/receiver/otlpreceiver {VERSION}}}]
exporters: [{{gomod: go.opentelemetry.io/collector/exporter/otlphttpexporter {VERSION}}}]
"""
_CONFIGURATION: Final = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{otlp_http: {{endpoint: "{endpoint}", compression: none}}}}
service:
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}
  telemetry: {{metrics: {{level: none}}}}
"""


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its program; COLLECTOR names one that is there already."""
    if built := os.environ.get("COLLECTOR"):
        return Path(built)
    go = shutil.which("go")
    if go is None:
        pytest.skip("no go to build the collector: apt-get install golang")
    folder = tmp_path_factory.mktemp("collector")
    (folder / "parts.yaml").write_text(_PARTS)
    builder = f"go.opentelemetry.io/collector/cmd/builder@{VERSION}"
    subprocess.run([go, "run", builder, "--config", "parts.yaml"], cwd=folder, check=True)
    return folder / "collector"


@pytest.mark.soak
@pytest.mark.timeout(2_400)
@pytest.mark.parametrize("topic", [1], indirect=True)
async def test_the_collector_passes_on_a_trace_from_the_producer_to_the_commit(
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    producer: AIOKafkaProducer,
    collector: Path,
    tmp_path: Path,
) -> None:
    port = free_port(set())
    configuration = tmp_path / "collector.yaml"
    with otlp_endpoint() as endpoint:
        configuration.write_text(_CONFIGURATION.format(port=port, endpoint=endpoint.url))
        collecting = await asyncio.create_subprocess_exec(collector, "--config", configuration)
        settings = settings_for(database, topic, bootstrap_servers)
        process = await service_process(
            settings, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}"
        )
        event = msgspec.json.encode(raw_event(1))
        await producer.send_and_wait(topic.name, event, headers=[TRACEPARENT])
        async with watching(database.url) as watcher:
            await watcher.until_read(topic, {0: 1})
        await stopped(process)
        await until(lambda: bool(endpoint.named("process ")))
        collecting.terminate()
        await collecting.wait()

    batch = batch_of(endpoint, (TRACE, PRODUCER_SPAN))
    *_, written = endpoint.children(batch)
    (commit,) = endpoint.children(written)
    assert commit.attributes["normalizer.stored"] == 1
