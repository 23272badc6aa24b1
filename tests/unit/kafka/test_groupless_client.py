"""A broker's refusal keeps its name, and only a missing right is called one."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    InvalidGroupIdError,
    NotCoordinatorForGroupError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from normalizer.config.settings import Settings
from normalizer.errors import BrokerUnavailableError, FatalError
from normalizer.kafka import GrouplessClient, committed_offsets

GROUP = "normalizer"


class Admin:
    """An admin client whose broker answers each request with the next of these error codes."""

    def __init__(self, *codes: int) -> None:
        self._codes = iter(codes)

    async def describe_consumer_groups(self, groups: list[str]) -> list[Any]:
        entry = (next(self._codes), groups[0], "Stable", "consumer", "range", [object()] * 3)
        return [SimpleNamespace(groups=[entry])]

    async def describe_configs(self, _: list[Any]) -> list[Any]:
        entry = (next(self._codes), "", 2, "t", [("retention.ms", "7")])
        return [SimpleNamespace(resources=[entry])]

    async def close(self) -> None:
        """Closed by the reader after an outage."""


def make_reader(*codes: int) -> GrouplessClient:
    reader = GrouplessClient(Settings(kafka_bootstrap_servers=("none:1",)))
    reader._consumer = reader._admin = Admin(*codes)
    return reader


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committed_offsets, "_COORDINATOR_WAIT_S", 0.0)


async def test_a_group_without_the_right_to_see_it_is_a_missing_right() -> None:
    with pytest.raises(FatalError, match=f"group {GROUP}: authorization: .* --group {GROUP}$"):
        await make_reader(GroupAuthorizationFailedError.errno).group_state_and_size(GROUP)


@pytest.mark.parametrize(
    "error",
    [
        GroupLoadInProgressError,
        GroupCoordinatorNotAvailableError,
        NotCoordinatorForGroupError,
    ],
)
async def test_a_coordinator_that_is_not_ready_is_called_again(error: Any) -> None:
    assert await make_reader(error.errno, error.errno, 0).group_state_and_size(GROUP) == (
        "Stable",
        3,
    )

    with pytest.raises(BrokerUnavailableError, match=f"group {GROUP}: {error.__name__}$"):
        await make_reader(*[error.errno] * 100).group_state_and_size(GROUP)


async def test_any_other_error_of_a_group_is_named() -> None:
    with pytest.raises(BrokerUnavailableError, match=f"group {GROUP}: InvalidGroupIdError$"):
        await make_reader(InvalidGroupIdError.errno, 0).group_state_and_size(GROUP)


async def test_settings_of_a_topic_are_none_or_a_missing_right_or_an_error_by_its_name() -> None:
    assert await make_reader(0).read_topic_config("t") == {"retention.ms": "7"}
    assert await make_reader(UnknownTopicOrPartitionError.errno).read_topic_config("t") == {}
    with pytest.raises(FatalError, match=r"topic t: authorization: .* --topic t$"):
        await make_reader(TopicAuthorizationFailedError.errno).read_topic_config("t")
    with pytest.raises(BrokerUnavailableError, match=r"topic t: RequestTimedOutError$"):
        await make_reader(RequestTimedOutError.errno).read_topic_config("t")
