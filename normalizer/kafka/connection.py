"""The parts that every Kafka client shares: options, partitions, records, errors."""

import asyncio
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka import TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.conn import CloseReason
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from normalizer.config.settings import Settings
from normalizer.config.tls_files import kafka_tls
from normalizer.core.raw_record import RawRecord
from normalizer.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    FatalError,
)
from normalizer.kafka.access_tokens import token_provider
from normalizer.kafka.sign_in import why_unavailable
from normalizer.kafka.token_sessions import renew_connections
from normalizer.kafka.unpacking import limit_unpacking

CLIENT_ID: Final = "normalizer"
"""The name that brokers log for our clients."""
REQUEST_TIMEOUT_MS: Final = 15_000
REBALANCE_TIMEOUT_MS: Final = 30_000
"""How long a rebalance waits for a process that hasn't joined yet."""
FETCH_BYTES: Final = 50 << 20
"""The most bytes of one answer. It is the default of Kafka's own client."""
PARTITION_BYTES: Final = 4 << 20
"""The most bytes of one partition in one answer. Memory holds one such part per partition."""
RETRY_BACKOFF_S: Final = 0.1
"""The same as retry.backoff.ms of Kafka's own client, with its default."""


class KafkaPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Bounds(NamedTuple):
    """The first offset of a log, and the end that a reader of committed records sees."""

    start: int
    end: int


class FetchedChunk(msgspec.Struct, frozen=True, kw_only=True):
    """The offsets of one partition from from_offset to next_offset.

    Those without a record are holes.
    """

    partition: KafkaPartition
    from_offset: int
    next_offset: int
    records: list[RawRecord]


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return the options of every aiokafka client: addresses, authentication, and TLS.

    Raises BrokerUnavailableError if a certificate or key can't be read any more.
    """
    limit_unpacking(FETCH_BYTES)
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.kafka_bootstrap_servers),
        "client_id": CLIENT_ID,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": REBALANCE_TIMEOUT_MS + 5_000,
    }
    if _signs_in_by_token(settings):
        options["sasl_mechanism"] = "OAUTHBEARER"
        options["sasl_oauth_token_provider"] = token_provider(settings)
    elif settings.kafka_security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _tls_context(settings)
    return options


def _tls_context(settings: Settings) -> ssl.SSLContext:
    """Load the TLS files.

    They worked at the start, so a failure may mean that they're being renewed.
    """
    try:
        return kafka_tls(settings)
    except ConfigurationError as error:
        raise BrokerUnavailableError(str(error), sign_in_refused=True) from error


def pace_metadata(client: Any) -> None:
    """Let a consumer's client request metadata at most once per RETRY_BACKOFF_S.

    While a partition has no leader, it would otherwise request metadata after every answer.
    """
    update = client._metadata_update  # noqa: SLF001 - the public API has no setting for this
    next_at_s = 0.0

    async def update_in_time(*arguments: Any) -> Any:
        nonlocal next_at_s
        await asyncio.sleep(next_at_s - time.monotonic())
        next_at_s = time.monotonic() + RETRY_BACKOFF_S
        return await update(*arguments)

    client._metadata_update = update_in_time  # noqa: SLF001 - as above


def close_abandoned(client: Any) -> None:
    """Let a client close the connection of a request that its caller cancels.

    The client itself closes a silent connection only after its own request timeout, which is longer
    than most of our waits. Without one it keeps the connection as long as TCP does, a quarter of an
    hour.
    """
    send = client.send

    async def send_or_close(
        node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT
    ) -> Any:
        try:
            return await send(node_id, request, group=group)
        except asyncio.CancelledError:
            if connection := client._conns.get((node_id, group)):  # noqa: SLF001 - the public API has no access to it
                connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise

    client.send = send_or_close


async def start_client(client: Any, settings: Settings, doing: str) -> None:
    """Start any of the library's clients, and renew its token in time if it has one.

    Raises BrokerUnavailableError, which names the step at which brokers refuse it, and FatalError
    if rights are missing.
    """
    if _signs_in_by_token(settings):
        # The client mistakes a refused token for a success, and its next requests get no answer.
        if refusal := await why_unavailable(connection_options(settings)):
            raise refusal
        inner = getattr(client, "_client", None) or getattr(client, "client", client)
        renew_connections(inner, token_provider(settings))
    with translating_errors(doing):
        try:
            await (client.start() if hasattr(client, "start") else client.bootstrap())
        except (KafkaError, OSError, TimeoutError) as error:
            if isinstance(error, tuple(_MISSING_RIGHTS)):
                raise
            refusal = await why_unavailable(connection_options(settings))
            if refusal is None:
                raise
            raise refusal from error


def _signs_in_by_token(settings: Settings) -> bool:
    return settings.kafka_security_protocol.startswith(
        "SASL"
    ) and settings.kafka_sasl_mechanism in {"OAUTHBEARER", "AWS_MSK_IAM"}


_MISSING_RIGHTS: Final = {
    ClusterAuthorizationFailedError: "cluster",
    GroupAuthorizationFailedError: "group",
    TopicAuthorizationFailedError: "topic",
    TransactionalIdAuthorizationFailed: "transactional-id",
}
"""The option of kafka-acls.sh for the resource of each error."""


_SEE_NODE: Final = (
    "does that broker run, and can this machine reach the address in its advertised.listeners?"
)


def grant(resource: str, name: str, operation: str = "Read") -> str:
    """Return the command that gives a user this right."""
    return (
        "kafka-acls.sh --add --allow-principal User:NAME "
        f"--operation {operation} --{resource} {name}"
    )


@contextmanager
def translating_errors(doing: str, *, writes: bool = False, topic: str = "") -> Iterator[None]:
    """Translate the client's errors into ours, by what the caller must do.

    With `writes`, a missing right to a topic is the right to write to it. `topic` is the topic if
    the client's error names none.
    """
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        for one in (error, error.__cause__):  # the client's own task wraps the error that ended it
            if isinstance(one, tuple(_MISSING_RIGHTS)):
                right = _missing_right(one, writes=writes, topic=topic)
                raise FatalError(f"{doing}: {right}") from error
        remedy = _SEE_NODE if isinstance(error, NodeNotReadyError) else ""
        raise BrokerUnavailableError(f"{doing}: {type(error).__name__}", remedy=remedy) from error


async def stop_client(client: Any, *, timeout_s: float) -> bool:
    """Stop a consumer, or close an admin client. Returns False if that failed or took too long.

    While brokers are unreachable, the client's own stop can end with the CancelledError of a task
    that it cancelled, and leave its connections open. That error must not cancel the caller.
    """

    async def stop() -> bool:
        try:
            await (client.stop() if hasattr(client, "stop") else client.close())
        except (KafkaError, OSError, TimeoutError):
            return False
        return True

    try:
        async with asyncio.timeout(timeout_s):
            async with asyncio.TaskGroup() as tasks:
                stopping = tasks.create_task(stop(), name="stop client")
            if not stopping.cancelled():
                return stopping.result()
            await client._client.close()  # noqa: SLF001 - stop() didn't get this far
    except (KafkaError, OSError, TimeoutError):
        return False
    return True


async def read_bounds(
    consumer: Any, partitions: Iterable[KafkaPartition]
) -> dict[KafkaPartition, Bounds]:
    """Request the first offset and the end of each partition. Raises the client's errors."""
    wanted = [TopicPartition(*one) for one in partitions]
    starts = await consumer.beginning_offsets(wanted)
    ends = await consumer.end_offsets(wanted)
    return {KafkaPartition(*one): Bounds(starts[one], ends[one]) for one in wanted}


def raw_record(record: Any, incarnation: int) -> RawRecord:
    """Convert the client's record."""
    return RawRecord(
        record.value,
        record.topic,
        incarnation,
        record.partition,
        record.offset,
        record.key,
        record.headers,
        record.timestamp if record.timestamp >= 0 else None,
    )


def _missing_right(error: KafkaError, *, writes: bool, topic: str) -> str:
    """Name the missing right. The error may hold a group, a topic, or a set of topics."""
    resource = _MISSING_RIGHTS[type(error)]
    names = error.args[0] if error.args else topic if resource == "topic" else ""
    named = ",".join(sorted([names] if isinstance(names, str) else map(str, names)))
    is_write = resource == "transactional-id" or (writes and resource == "topic")
    remedy = (
        grant(resource, named, "Write" if is_write else "Read")
        if named
        else "see `normalizer check`"
    )
    return f"authorization: no right to this {resource}: {remedy}"
