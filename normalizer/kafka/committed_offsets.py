"""Reads the offsets that a consumer group has committed, and can wait for open transactions.

The relay commits its offsets in transactions, so it must not read an offset that such a transaction
is about to change. If an OffsetFetch request has the field `require_stable`, the broker rejects it
while that's the case, and the request can be repeated. aiokafka's own request lacks this field, and
gets the offset from before the transaction. So this module sends a request that has it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from normalizer.kafka.client_setup import KafkaPartition

_T = TypeVar("_T")

_UNSTABLE_OFFSET_COMMIT: Final = 88
"""_UNSTABLE_OFFSET_COMMIT: a transaction that commits the offset hasn't ended yet."""
_RETRY_S: Final = 0.05
_COORDINATOR_NOT_READY_ERRORS: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
"""Temporary errors of the group's coordinator.

A cluster creates the coordinator on a group's first request, and loads it after a restart."""
_COORDINATOR_TRIES: Final = 40
_COORDINATOR_WAIT_S: Final = 0.25


class CommittedOffset(NamedTuple):
    """The next offset to read of a partition, and the metadata text committed with it."""

    next_offset: int
    metadata: str = ""


async def read_committed_offsets(
    client: Any, group_id: str, partitions: Iterable[KafkaPartition], *, stable: bool
) -> dict[KafkaPartition, CommittedOffset]:
    """Return the offsets that a group has committed, leaving out partitions without one.

    With `stable`, this waits until no open transaction can change the offsets any more. Raises
    aiokafka's errors.
    """
    by_topic: defaultdict[str, list[int]] = defaultdict(list)
    for topic, partition in partitions:
        by_topic[topic].append(partition)
    request = _OffsetFetch(group_id, by_topic, stable=stable)
    return await retry_until_coordinator_ready(partial(_offsets, client, group_id, request))


async def retry_until_coordinator_ready(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Send a request to a group's coordinator, and repeat it while the coordinator isn't ready.

    After 41 attempts, 0.25 s apart, it raises the coordinator's error.
    """
    for _ in range(_COORDINATOR_TRIES):
        try:
            return await ask()
        except _COORDINATOR_NOT_READY_ERRORS:
            await asyncio.sleep(_COORDINATOR_WAIT_S)
    return await ask()


async def _offsets(
    client: Any, group_id: str, request: "_OffsetFetch"
) -> dict[KafkaPartition, CommittedOffset]:
    coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group_id)
    while True:
        answer = await client.send(coordinator, request, group=ConnectionGroup.COORDINATION)
        found = {
            KafkaPartition(topic, one[0]): (CommittedOffset(one[1], one[3] or ""), one[4])
            for topic, topic_partitions, _ in answer.topics
            for one in topic_partitions
        }
        codes = {answer.error_code, *(code for _, code in found.values())} - {0}
        if codes != {_UNSTABLE_OFFSET_COMMIT}:
            break
        await asyncio.sleep(_RETRY_S)
    for code in codes:
        raise for_code(code)
    return {one: committed for one, (committed, _) in found.items() if committed.next_offset >= 0}


class _Offsets(Response):  # type: ignore[misc]
    """The response. Source: Kafka's protocol, OffsetFetch, version 7."""

    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition_index", Int32),
                        ("committed_offset", Int64),
                        ("committed_leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _Query(RequestStruct):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Offsets
    SCHEMA = Schema(
        ("group_id", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("partition_indexes", CompactArray(Int32)),
                ("tags", TaggedFields),
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class _OffsetFetch(Request[_Query]):  # type: ignore[misc]
    API_KEY = 9

    def __init__(
        self, group_id: str, partitions: Mapping[str, Sequence[int]], *, stable: bool
    ) -> None:
        self._group_id = group_id
        self._stable = stable
        self._topics: list[tuple[str, list[int], dict[int, bytes]]] = [
            (topic, [*topic_partitions], {}) for topic, topic_partitions in partitions.items()
        ]

    def build(self, request_struct_class: Any) -> Any:
        """Build the request for the client to send."""
        return request_struct_class(self._group_id, self._topics, self._stable, {})
