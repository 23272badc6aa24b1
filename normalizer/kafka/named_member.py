"""Lets a process with a name keep its partitions while it restarts (Kafka's static membership).

The group waits for a named process until its session times out. If it rejoins before that, it gets
the same partitions back, and nobody else notices. The client lacks three things for this:

- Its heartbeats have no name. So two processes with one name would take each other's place, again
  and again.
- It doesn't leave the group when it stops.
- If the group's leader restarts, its client doesn't know that it is still the leader, and nobody
  notices new partitions.
"""

import asyncio
from typing import Any, Final

from aiokafka.protocol.api import Request, RequestStruct
from aiokafka.protocol.group import HeartbeatRequest, HeartbeatResponse_v1, JoinGroupRequest
from aiokafka.protocol.types import Int32, Schema, String

from normalizer.config.settings import Settings
from normalizer.errors import FatalError
from normalizer.kafka import group_consumer

NAME_TAKEN: Final = 82
"""Kafka's FENCED_INSTANCE_ID: another process has since joined with this name."""


class NamedMember:
    """This process as a member of its group, by its NORMALIZER_INSTANCE, if it has one."""

    def __init__(self, settings: Settings) -> None:
        self._name = settings.instance
        self._group = settings.kafka_group_id
        self._is_taken = False

    def prepare(self, consumer: Any) -> None:
        """Let a consumer send the name with each request that has a field for it.

        Call it before the consumer's start. Raises FatalError if another process took over the
        name. Joining would take it back, and then the other process would do the same.
        """
        self.check()
        if not self._name:
            return
        client = consumer._client  # noqa: SLF001 - the public API has no access to it
        send, name = client.send, self._name

        async def send_with_name(node_id: Any, request: Any, **options: Any) -> Any:
            if isinstance(request, HeartbeatRequest):
                request = _NamedHeartbeat(request, name)
            answer = await send(node_id, request, **options)
            if getattr(answer, "error_code", 0) == NAME_TAKEN:
                self._is_taken = True
            elif isinstance(request, JoinGroupRequest) and _is_former_self(answer, name):
                _lead_later(consumer, answer.generation_id)
            return answer

        client.send = send_with_name

    def check(self) -> None:
        """Raise FatalError if another process took the name over."""
        if self._is_taken:
            raise FatalError(
                f"another process joined group {self._group} as {self._name}: "
                "give each process its own NORMALIZER_INSTANCE"
            )


def leave_when_stopped(consumer: Any) -> None:
    """Let the client leave the group when it stops, so that its partitions move at once."""
    if consumer._coordinator is not None:  # noqa: SLF001 - the public API has no access to it
        consumer._coordinator._group_instance_id = None  # noqa: SLF001 - as above


def _lead_later(consumer: Any, generation: int) -> None:
    """Join once more, unless that happened already, so that the client learns that it leads."""

    def lead() -> None:
        coordinator = consumer._coordinator  # noqa: SLF001 - as above
        if coordinator.generation == generation:
            coordinator.request_rejoin()

    wait_s = group_consumer.METADATA_AGE_MS / 1000
    asyncio.get_running_loop().call_later(wait_s, lead)


def _is_former_self(answer: Any, name: str) -> bool:
    """Return whether the group's leader is this process before its restart, by its old id.

    Kafka builds the id of a named member from the name, a hyphen, and 36 characters.
    """
    leader: str = answer.leader_id
    return leader != answer.member_id and leader[:-36] == f"{name}-"


class _Answer(HeartbeatResponse_v1):  # type: ignore[misc]
    """Source: Kafka's protocol, Heartbeat, version 3."""

    API_VERSION = 3


class _Heartbeat(RequestStruct):  # type: ignore[misc]
    API_KEY = 12
    API_VERSION = 3
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("generation_id", Int32),
        ("member_id", String("utf-8")),
        ("group_instance_id", String("utf-8")),
    )


class _NamedHeartbeat(Request[_Heartbeat]):  # type: ignore[misc]
    API_KEY = 12

    def __init__(self, unnamed: Any, name: str) -> None:
        self._fields = (unnamed._group, unnamed._generation_id, unnamed._member_id, name)  # noqa: SLF001 - as above

    def build(self, request_struct_class: Any) -> Any:
        """Build the request that the client sends."""
        return request_struct_class(*self._fields)
