"""The parts that all Kafka clients share: options, start and stop, records, translated errors.

Code outside of this package never sees an error of aiokafka. It gets one of our errors instead,
whose class says whether a retry helps.
"""

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
from normalizer.config.tls_files import kafka_ssl_context
from normalizer.core.raw_record import RawRecord
from normalizer.errors import (
    BrokerSignInError,
    BrokerUnavailableError,
    ConfigurationError,
    FatalError,
)
from normalizer.kafka.access_tokens import make_client_renew_connections, shared_token_provider
from normalizer.kafka.connection_diagnosis import diagnose_connection
from normalizer.kafka.decompression import limit_decompression

CLIENT_ID: Final = "normalizer"
"""The name that brokers log for our clients."""
REQUEST_TIMEOUT_MS: Final = 15_000
REBALANCE_TIMEOUT_MS: Final = 30_000
"""How long the brokers wait in a rebalance for a member that hasn't rejoined yet."""
MAX_FETCH_BYTES: Final = 50 << 20
"""The most bytes of one fetch response. It's the default of Kafka's own client."""
MAX_PARTITION_FETCH_BYTES: Final = 4 << 20
"""The most bytes of one partition in one fetch response. We keep one such part per partition in
memory."""
RETRY_BACKOFF_S: Final = 0.1
"""The same as retry.backoff.ms of Kafka's own client, with its default."""


class KafkaPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class OffsetBounds(NamedTuple):
    """A partition's first offset, and the end that a reader of committed records sees."""

    start: int
    end: int


class FetchedChunk(msgspec.Struct, frozen=True, kw_only=True):
    """The consecutive records of one partition that a fetch returned.

    The chunk covers the offsets from `from_offset` up to, but not including, `next_offset`. If an
    offset in this range has no record, that doesn't mean that one was lost. For example, Kafka uses
    offsets for transaction markers, and compaction removes records.
    """

    partition: KafkaPartition
    from_offset: int
    next_offset: int
    records: list[RawRecord]


def connection_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments for every aiokafka client: addresses, authentication, and TLS.

    As a side effect, this limits for all clients of the process how large a batch may become when
    it's decompressed. Raises BrokerSignInError if a certificate or key file can't be read any more.
    """
    limit_decompression(MAX_FETCH_BYTES)
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.kafka_bootstrap_servers),
        "client_id": CLIENT_ID,
        "security_protocol": settings.kafka_security_protocol,
        "request_timeout_ms": REBALANCE_TIMEOUT_MS + 5_000,
    }
    if _signs_in_by_token(settings):
        options["sasl_mechanism"] = "OAUTHBEARER"
        options["sasl_oauth_token_provider"] = shared_token_provider(settings)
    elif settings.kafka_security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _tls_context(settings)
    return options


def _tls_context(settings: Settings) -> ssl.SSLContext:
    """Load the certificate and key files of the connection to Kafka.

    They could be read when the process started. If one can't be read now, somebody is probably
    replacing it. So the error that's raised then makes the caller try again.
    """
    try:
        return kafka_ssl_context(settings)
    except ConfigurationError as error:
        raise BrokerSignInError(str(error)) from error


def limit_metadata_requests(client: Any) -> None:
    """Make a consumer's client request metadata at most once per RETRY_BACKOFF_S.

    While a partition has no leader, aiokafka sends one request right after the other, which keeps a
    CPU core and a broker busy.
    """
    update = client._metadata_update  # noqa: SLF001 - the public API has no setting for this
    next_at_s = 0.0

    async def update_in_time(*arguments: Any) -> Any:
        nonlocal next_at_s
        await asyncio.sleep(next_at_s - time.monotonic())
        next_at_s = time.monotonic() + RETRY_BACKOFF_S
        return await update(*arguments)

    client._metadata_update = update_in_time  # noqa: SLF001 - as above


def close_connections_of_cancelled_requests(client: Any) -> None:
    """Make a client close the connection of a request whose caller was cancelled.

    Most of our timeouts are shorter than aiokafka's request timeout. When one of them cancels a
    caller, nothing in aiokafka watches that caller's request any more. If the broker is silent, the
    connection would stay open until TCP ends it about 15 minutes later, and every request over it
    would wait in vain until then.
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
    """Start a consumer, producer, or admin client. If it signs in with a token, keep renewing it.

    Raises BrokerUnavailableError, which names the step at which the brokers reject the client, such
    as TLS or SASL. Raises FatalError if a right is missing. The caller must stop the client, also
    after an error.
    """
    if _signs_in_by_token(settings):
        # aiokafka doesn't notice that a broker has rejected its token. It treats the sign-in as
        # successful, and then waits for responses that never come. So try to sign in here first. If
        # that fails, the error gives the broker's reason instead of a timeout.
        if why := await diagnose_connection(connection_options(settings)):
            raise why
        inner = getattr(client, "_client", None) or getattr(client, "client", client)
        make_client_renew_connections(inner, shared_token_provider(settings))
    with translate_kafka_errors(doing):
        try:
            await (client.start() if hasattr(client, "start") else client.bootstrap())
        except (KafkaError, OSError, TimeoutError) as error:
            if isinstance(error, tuple(_MISSING_RIGHTS)):
                raise
            why = await diagnose_connection(connection_options(settings))
            if why is None:
                raise
            raise why from error


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
"""The resource type in kafka-acls.sh for each error."""


_SEE_NODE: Final = (
    "does that broker run, and can this machine reach the address in its advertised.listeners?"
)


def acl_grant_command(resource: str, name: str, operation: str = "Read") -> str:
    """Return the kafka-acls.sh command that grants a user this right."""
    return (
        "kafka-acls.sh --add --allow-principal User:NAME "
        f"--operation {operation} --{resource} {name}"
    )


@contextmanager
def translate_kafka_errors(doing: str, *, writes: bool = False, topic: str = "") -> Iterator[None]:
    """Within this block, translate aiokafka's errors into our own.

    A missing right becomes a FatalError that says how to grant it, and everything else becomes a
    BrokerUnavailableError. `doing` begins the message, for example "reading the cluster id". Pass
    `writes` if the block writes to a topic, so that the right to write is named if that one is
    missing. `topic` is named if aiokafka's error doesn't name a topic.
    """
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        for one in (error, error.__cause__):  # aiokafka's own task wraps the error that ended it
            if isinstance(one, tuple(_MISSING_RIGHTS)):
                right = _missing_right(one, writes=writes, topic=topic)
                raise FatalError(f"{doing}: {right}") from error
        remedy = _SEE_NODE if isinstance(error, NodeNotReadyError) else ""
        raise BrokerUnavailableError(f"{doing}: {type(error).__name__}", remedy=remedy) from error


async def stop_client(client: Any, *, timeout_s: float) -> bool:
    """Stop a consumer or producer, or close an admin client. Returns False if that failed.

    It also counts as failed if it takes longer than `timeout_s`. While brokers are unreachable,
    aiokafka's stop() may raise the CancelledError of one of its own tasks and leave connections
    open. That error would cancel our caller too. So it's caught here, and the connections are
    closed.
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


async def read_offset_bounds(
    consumer: Any, partitions: Iterable[KafkaPartition]
) -> dict[KafkaPartition, OffsetBounds]:
    """Request the first offset and the end of each partition. Raises aiokafka's errors."""
    wanted = [TopicPartition(*one) for one in partitions]
    starts = await consumer.beginning_offsets(wanted)
    ends = await consumer.end_offsets(wanted)
    return {KafkaPartition(*one): OffsetBounds(starts[one], ends[one]) for one in wanted}


def to_raw_record(record: Any, incarnation: int) -> RawRecord:
    """Convert aiokafka's record to a RawRecord."""
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
    """Describe the missing right, with the kafka-acls.sh command that grants it.

    The argument of aiokafka's error is the name of a group or topic, or a set of topics.
    """
    resource = _MISSING_RIGHTS[type(error)]
    names = error.args[0] if error.args else topic if resource == "topic" else ""
    named = ",".join(sorted([names] if isinstance(names, str) else map(str, names)))
    is_write = resource == "transactional-id" or (writes and resource == "topic")
    remedy = (
        acl_grant_command(resource, named, "Write" if is_write else "Read")
        if named
        else "see `normalizer check`"
    )
    return f"authorization: no right to this {resource}: {remedy}"
