"""While a partition has no leader, metadata are requested ten times a second at most."""

import asyncio
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState

from normalizer.kafka.client_setup import RETRY_BACKOFF_S, limit_metadata_requests
from normalizer.runtime.backoff import wait_at_most
from tests.support.waiting import moment

ZERO = TopicPartition("t", 0)
WATCHED_S = 0.55


async def requests_without_a_leader(*, paced: bool) -> int:
    """How often metadata are requested in WATCHED_S, of a broker that answers soon."""
    requested = 0

    async def answer(*_: Any) -> bool:
        nonlocal requested
        requested += 1
        await moment()
        return True

    client, subscription = AIOKafkaClient(bootstrap_servers="none:1"), SubscriptionState()
    client._metadata_update = answer
    if paced:
        limit_metadata_requests(client)
    subscription.assign_from_user([ZERO])
    client._sync_task = asyncio.create_task(client._md_synchronizer(), name="metadata")
    fetcher = Fetcher(client, subscription, auto_offset_reset="none")
    await wait_at_most(asyncio.Event(), WATCHED_S)
    await fetcher.close()
    await client.close()
    return requested


async def test_a_partition_without_a_leader_floods_no_broker() -> None:
    assert 2 <= await requests_without_a_leader(paced=True) <= WATCHED_S / RETRY_BACKOFF_S + 1


async def test_the_client_by_itself_requests_again_with_every_answer() -> None:
    """Once this fails, limit_metadata_requests can go."""
    assert await requests_without_a_leader(paced=False) > 2 * WATCHED_S / RETRY_BACKOFF_S
