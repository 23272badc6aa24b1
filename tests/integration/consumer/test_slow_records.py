"""A record that takes long in the helper process holds up its partition, and no other."""

import os
import signal

import msgspec
import pytest
import structlog

from normalizer.cli import position_commands
from normalizer.consumer.slow_records import _PATIENCE_S
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Normalized
from normalizer.runtime.normalizing_helper import NormalizingHelper
from tests.support.commands import invoked
from tests.support.factories import raw_event
from tests.support.feed import Feed
from tests.support.service_runs import environment, running, until
from tests.support.table_rows import assert_ledger_holds, connected, count


@pytest.mark.parametrize("topic", [2], indirect=True)
async def test_a_slow_record_holds_up_its_partition_and_no_other(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    normalize = NormalizingHelper.normalize

    async def counted(helper: NormalizingHelper, record: RawRecord) -> tuple[Normalized, ...]:
        begun.append(record.coordinates_text)
        return await normalize(helper, record)

    monkeypatch.setattr(NormalizingHelper, "normalize", counted)
    with structlog.testing.capture_logs() as lines:
        async with running(feed.settings(core="python")) as service:
            await feed.send_value(_heavy(0))
            await feed.until_read({0: 1})
            helper = service.chunk_normalizer.normalizing_helper.process
            assert helper
            os.kill(helper.pid, signal.SIGSTOP)  # whatever it gets now takes long

            await feed.send(range(1, 2), partition=0)
            await feed.send_value(_heavy(2))
            await feed.send(range(3, 4), partition=0)
            await until(lambda: any(line["event"] == "partition.set_aside" for line in lines))
            await feed.send(range(10, 30), partition=1)
            await feed.until_read({1: 20})
            waiting = (await feed.position())["next_offset"]
            os.kill(helper.pid, signal.SIGCONT)
            await feed.until_read({0: 4})

        assert service.counters.rebalances == 1
    assert waiting < 3
    assert begun == [
        f"{feed.partition(0)}@{offset}" for offset in (0, 2)
    ]  # what is done isn't repeated
    # On a busy machine the first one may be slow too.
    slow = {line["record"]: line["seconds"] for line in lines if line["event"] == "record.slow"}
    assert slow[f"{feed.partition(0)}@2"] > _PATIENCE_S  # also the time after it was set aside
    async with connected(feed.database) as connection:
        await assert_ledger_holds(connection)
        assert await count(connection, "events") == 24


async def test_an_operator_can_move_past_a_record_that_the_helper_never_finishes(
    feed: Feed,
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running(settings := feed.settings(core="python")) as service:
            await feed.send_value(_heavy(0))
            await feed.until_read({0: 1})
            helper = service.chunk_normalizer.normalizing_helper.process
            assert helper
            os.kill(helper.pid, signal.SIGSTOP)
            try:
                await feed.send_value(_heavy(1))
                await feed.send(range(2, 3), partition=0)
                await until(lambda: any(line["event"] == "partition.set_aside" for line in lines))
                done = await invoked(
                    position_commands.position,
                    *("skip", f"{feed.name}:0", "--offset", "1", "--why", "it hangs"),
                    environment=environment(settings),
                )
                await feed.until_read({0: 3})
            finally:
                os.kill(helper.pid, signal.SIGCONT)

    assert done[0] == 0
    async with connected(feed.database) as connection:
        await assert_ledger_holds(connection)
        assert await count(connection, "events") == 2
        assert await count(connection, "normalizer.quarantine") == 1


def _heavy(number: int) -> bytes:
    return msgspec.json.encode(raw_event(number, context={"v": [0] * 5_000}))
