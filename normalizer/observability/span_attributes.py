"""The names and attributes of spans.

Source: OpenTelemetry semantic conventions 1.44 for messaging, Kafka, database, and PostgreSQL.
Attributes that these don't define begin with `normalizer.`.
"""

from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from opentelemetry.trace import SpanKind

from normalizer.config.settings import Settings
from normalizer.core.batch import Batch
from normalizer.errors import StoreUnavailableError
from normalizer.kafka import CLIENT_ID

OTEL_SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
KAFKA_ATTRIBUTES: Final = {"messaging.system": "kafka"}


class SinkSpanAttributes(NamedTuple):
    """The names and attributes of the spans that write and commit."""

    name: str
    kind: SpanKind
    write: dict[str, Any]
    commit_name: str
    commit: dict[str, Any]


def describe_postgres_sink(database_url: str) -> SinkSpanAttributes:
    """Describe the database of the URL, without user and password."""
    parts = urlsplit(database_url)
    database = unquote(parts.path.lstrip("/"))
    common: dict[str, Any] = {"db.system.name": "postgresql"}
    if database:
        common["db.namespace"] = database
    if parts.hostname and "," not in parts.netloc:
        common |= {"server.address": parts.hostname, "server.port": parts.port or 5432}
    table = "normalizer.events"
    return SinkSpanAttributes(
        f"write {table}",
        SpanKind.CLIENT,
        {**common, "db.operation.name": "write", "db.collection.name": table},
        f"COMMIT {database}".rstrip(),
        {**common, "db.operation.name": "COMMIT"},
    )


def describe_relay_sink(settings: Settings) -> SinkSpanAttributes:
    """Describe the relay's topic of canonical events."""
    topic = settings.kafka_canonical_topic
    common = {
        **KAFKA_ATTRIBUTES,
        "messaging.destination.name": topic,
        "messaging.client.id": CLIENT_ID,
    }
    return SinkSpanAttributes(
        f"send {topic}",
        SpanKind.PRODUCER,
        {**common, **operation_attributes("send")},
        f"commit {topic}",
        {**common, **operation_attributes("send", "commit")},
    )


def operation_attributes(kind: str, name: str = "") -> dict[str, str]:
    """Return the attributes of a messaging operation: its kind, and its name in Kafka."""
    return {"messaging.operation.type": kind, "messaging.operation.name": name or kind}


def destination_attributes(batch: Batch) -> dict[str, str]:
    """Return topic and partition, each if it's the same for the whole batch."""
    topics = {part.topic for part in batch.parts}
    partitions = {(part.topic, part.partition) for part in batch.parts}
    where = {}
    if len(topics) == 1:
        where["messaging.destination.name"] = batch.parts[0].topic
    if len(partitions) == 1:
        where["messaging.destination.partition.id"] = str(batch.parts[0].partition)
    return where


def error_attributes(error: BaseException) -> dict[str, str]:
    """Return the class and SQLSTATE of an error, never its text."""
    attributes = {"error.type": type(error).__name__}
    if isinstance(error, StoreUnavailableError) and error.sqlstate:
        attributes["db.response.status_code"] = error.sqlstate
    return attributes
