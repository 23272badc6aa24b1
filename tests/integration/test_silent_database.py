"""A database host that answers nothing any more: whoever tells and looks gives up, and is back."""

import asyncio

import pytest

from normalizer.core.radar import Finding
from normalizer.kafka import Bounds, Partition
from normalizer.service import heartbeat, standing
from normalizer.service.heartbeat import Heartbeat, Seen
from normalizer.service.standing import Standing
from normalizer.settings import Settings
from tests.factories import TOPIC
from tests.proxy import Proxy
from tests.stack import Database
from tests.tables import claimed, connected, count, open_store

PATIENCE_S = 15


async def test_a_heartbeat_gives_up_and_the_next_one_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "ANSWER_S", 0.5)
    partition = Partition(TOPIC, 0)
    seen = {partition: Seen(bounds=Bounds(0, 9), partition_count=1, age_s=0.0)}
    async with open_store(database) as store, Proxy(database.url) as proxy:
        claim = await claimed(store)
        telling = Heartbeat(proxy.url)
        proxy.lose(b"source_log", "silence", passed_on=False)

        async with asyncio.timeout(PATIENCE_S):
            await telling.beat({partition: claim}, seen, ())
        assert proxy.lost.is_set()
        await telling.beat({partition: claim}, seen, ())
        telling.close()

    async with connected(database) as connection:
        assert await count(connection, "normalizer.source_log") == 1


async def test_keeping_what_drifted_gives_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "ANSWER_S", 1.0)
    finding = Finding(
        shape="client",
        kind="unknown_key",
        field="field",
        type="str",
        topic=TOPIC,
        generation=0,
        partition=0,
        offset=1,
        example="x",
    )
    async with Proxy(database.url) as proxy:
        looking = Standing(Settings(database_url=proxy.url, kafka_bootstrap_servers=("none:1",)))
        await looking._ask_database(())
        proxy.lose(b"normalizer.drift", "silence", passed_on=False)

        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(TimeoutError):
                await looking.keep([finding])
        assert proxy.lost.is_set()
        await looking.close()
