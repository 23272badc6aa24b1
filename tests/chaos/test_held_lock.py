"""A row lock that somebody forgot, for ten minutes, under traffic; figures to docs/results."""

import asyncio
import contextlib
import time
from typing import Final

import pytest
import structlog
from aiokafka import AIOKafkaProducer

from normalizer.service.monitor import Monitor
from tests.factories import EXECUTION_ID
from tests.monitored import asked
from tests.results import Say, write_results
from tests.running import running, send, settings_for, until, watching
from tests.stack import Database, Topic
from tests.tables import assert_ledger_holds, connected, count

HELD_S: Final = 600
NAMED_WITHIN_S: Final = 6.0
STORED_WITHIN_S: Final = 5.0
EVENTS_A_SECOND: Final = 50


@pytest.mark.soak
@pytest.mark.timeout(HELD_S + 300)
async def test_a_row_lock_held_for_ten_minutes(
    database: Database,
    topic: Topic,
    bootstrap_servers: str,
    producer: AIOKafkaProducer,
    say: Say,
) -> None:
    settings = settings_for(database, topic, bootstrap_servers)
    with structlog.testing.capture_logs() as lines:
        async with (
            running(settings) as service,
            watching(database.url) as watcher,
            connected(database) as holder,
        ):
            await send(producer, topic, range(3))
            await watcher.until_read(topic, {0: 1, 1: 1, 2: 1})
            with Monitor(settings, service) as monitor:
                async with holder.transaction():
                    await holder.execute(
                        "select 1 from projector.execution_facts where execution_id = $1 "
                        "for update",
                        EXECUTION_ID,
                    )
                    begun_s = time.monotonic()
                    sent, named_s, waited_for = 3, None, ""
                    while (held_s := time.monotonic() - begun_s) < HELD_S:
                        await send(producer, topic, range(sent, sent + EVENTS_A_SECOND))
                        sent += EVENTS_A_SECOND
                        _, body = await asked(f"{monitor.url}/readyz")
                        reasons = "; ".join(body["reasons"])
                        if named_s is None and "batch in hand" in reasons:
                            named_s = time.monotonic() - begun_s
                        if "held by pid" in reasons:
                            waited_for = reasons
                        if sent % (EVENTS_A_SECOND * 60) == 3:
                            say(f"held for {held_s:.0f} s, {sent} sent: {reasons}")
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(1):
                                await asyncio.Event().wait()
                    refused_meanwhile = await count(watcher.connection, "normalizer.quarantine")
                released_s = time.monotonic()
                ends = {one: len(range(one, sent, topic.partitions)) for one in range(3)}
                await watcher.until_read(topic, ends)
                stored_s = time.monotonic() - released_s
                await until(lambda: any(one["event"] == "batch_waits_no_longer" for one in lines))
            refused = await count(watcher.connection, "normalizer.quarantine")
            stored = await watcher.events()
            await assert_ledger_holds(holder)

    waits = [one for one in lines if one["event"] == "batch_waits"]
    write_results(
        "held-lock",
        "A row lock held for ten minutes",
        'make soak ARGS="-k ten_minutes"',
        {
            "events sent meanwhile": f"{sent:,}",
            "named by /readyz after": f"{named_s or 0:.1f} s",
            "lines of batch_waits": len(waits),
            "refused": refused + refused_meanwhile,
            "all stored after the release": f"{stored_s:.1f} s",
        },
        "PostgreSQL and Kafka of the tests",
    )
    assert named_s is not None
    assert named_s < NAMED_WITHIN_S
    assert "it waits for a lock held by pid" in waited_for
    assert (refused_meanwhile, refused, stored) == (0, 0, sent)
    assert stored_s < STORED_WITHIN_S
