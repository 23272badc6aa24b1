"""Lets a process with a name keep its partitions while it restarts (Kafka's static membership).

Without a name, every restart causes two rebalances. If NORMALIZER_INSTANCE gives a process a name,
the group keeps its partitions for it until its session times out. So a process that rejoins in time
continues without a rebalance. aiokafka supports this only in part, and this module adds what is
missing:

- aiokafka's heartbeats don't carry the name. If two processes had the same name, each would push
  the other out of the group, again and again.
- aiokafka never leaves the group if the member has a name, so the partitions of a stopped process
  would wait for the session timeout.
- When the leader of the group restarts, aiokafka doesn't notice that the process is still the
  leader, so nobody would assign new partitions.
"""

import asyncio
from typing import Any, Final

from aiokafka.protocol.api import Request, RequestStruct
from aiokafka.protocol.group import HeartbeatRequest, HeartbeatResponse_v1, JoinGroupRequest
from aiokafka.protocol.types import Int32, Schema, String

from normalizer.config.settings import Settings
from normalizer.errors import FatalError
from normalizer.kafka import consumer_factory

_FENCED_INSTANCE_ID: Final = 82
"""Kafka's _FENCED_INSTANCE_ID: another process has joined with this name since."""


class StaticMember:
    """This process as a member of its group, with the name in NORMALIZER_INSTANCE if that's set."""

    def __init__(self, settings: Settings) -> None:
        self._name = settings.instance
        self._group = settings.kafka_group_id
        self._is_taken = False

    def add_instance_name_to_requests(self, consumer: Any) -> None:
        """Make a consumer send the name with each request that has a field for it.

        Call this before starting the consumer. If another process takes over the name, the consumer
        raises FatalError. Joining again wouldn't help, because we would take the name back, and the
        other process would then do the same.
        """
        self.raise_if_name_taken()
        if not self._name:
            return
        client = consumer._client  # noqa: SLF001 - the public API has no access to it
        send, name = client.send, self._name

        async def send_with_name(node_id: Any, request: Any, **options: Any) -> Any:
            if isinstance(request, HeartbeatRequest):
                request = _NamedHeartbeat(request, name)
            answer = await send(node_id, request, **options)
            if getattr(answer, "error_code", 0) == _FENCED_INSTANCE_ID:
                self._is_taken = True
            elif isinstance(request, JoinGroupRequest) and _is_former_self(answer, name):
                _lead_later(consumer, answer.generation_id)
            return answer

        client.send = send_with_name

    def raise_if_name_taken(self) -> None:
        """Raise FatalError if another process has taken the name over."""
        if self._is_taken:
            raise FatalError(
                f"another process joined group {self._group} as {self._name}, so this process "
                "exits. Give each process its own NORMALIZER_INSTANCE"
            )


def leave_when_stopped(consumer: Any) -> None:
    """Make the client leave the group when it stops, so that its partitions move at once."""
    if consumer._coordinator is not None:  # noqa: SLF001 - the public API has no access to it
        consumer._coordinator._group_instance_id = None  # noqa: SLF001 - as above


def _lead_later(consumer: Any, generation: int) -> None:
    """Rejoin the group in 30 s, so that the client learns that it's the leader.

    If a rebalance happens before that, the client learns it from the rebalance and doesn't have to
    rejoin.
    """

    def lead() -> None:
        coordinator = consumer._coordinator  # noqa: SLF001 - as above
        if coordinator.generation == generation:
            coordinator.request_rejoin()

    wait_s = consumer_factory.METADATA_MAX_AGE_MS / 1000
    asyncio.get_running_loop().call_later(wait_s, lead)


def _is_former_self(answer: Any, name: str) -> bool:
    """Return whether the group's leader is this process from before its restart.

    A restarted member gets a new member id, but the group may still know the leader by its old one.
    Kafka builds the id of a named member from the name, a hyphen, and 36 characters, so comparing
    the names in the ids is enough.
    """
    leader: str = answer.leader_id
    return leader != answer.member_id and leader[:-36] == f"{name}-"


class _Answer(HeartbeatResponse_v1):  # type: ignore[misc]
    """The response. Source: Kafka's protocol, Heartbeat, version 3."""

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
