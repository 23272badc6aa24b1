"""Settings of a relay whose output topics exist."""

from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from normalizer.config.settings import Settings
from tests.support.relay_runs import output_topics, relay_settings
from tests.support.stack import Topic


@pytest.fixture
async def settings(
    topic: Topic, bootstrap_servers: str, admin: AIOKafkaAdminClient
) -> AsyncIterator[Settings]:
    made = relay_settings(topic, bootstrap_servers)
    async with output_topics(admin, made):
        yield made
