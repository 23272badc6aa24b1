"""The relay of stored events: each one, each change, in an order no late commit can slip under."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import asyncpg
import msgspec
import pytest
from msgspec.structs import replace

from normalizer.cli.relay_command import FROM_POSTGRES_GROUP_SUFFIX
from normalizer.config.settings import Settings
from normalizer.envelope import to_canonical
from normalizer.errors import FatalError
from normalizer.jobs.forget import ErasureWhoAndWhy, ExecutionToForget, Forget
from normalizer.jobs.sources.row_pages import BYTES_PER_PAGE
from normalizer.kafka import GrouplessClient, KafkaPartition, TransactionalProducer
from normalizer.relay.event_pages import (
    _REGISTER_RELAY,
    RelayRegistration,
    StoredEventReader,
    TransactionSnapshot,
    first_events_table_position,
    parse_events_table_position,
    unregister_relay,
)
from normalizer.relay.event_relay import EventRelay
from normalizer.store.session import Session
from tests.support.factories import after, envelope, make_batch
from tests.support.relay_runs import read_topic, silent_output
from tests.support.service_runs import process, until
from tests.support.stack import Database, Topic
from tests.support.table_rows import claimed, connected, execute, open_store, stored_events
from tests.support.waiting import DEADLINE_S

INSERT = """
    insert into normalizer.events (event_id, execution_id, event_type, status, step)
    select number, 1000 + number % 7, 'step.enter', 'STARTED', 'first'
    from   generate_series($1::bigint, $2::bigint) as number
"""

EXECUTIONS = """
    insert into normalizer.events (event_id, execution_id, event_type, status, step)
    select $1::bigint * 2000 + number, 1 + number % 10, 'step.enter', 'STARTED', 'first'
    from   generate_series(0, 1999) as number
"""


@pytest.fixture
def settings(settings: Settings, topic: Topic, database: Database) -> Settings:
    """Settings of a relay of this test's database. The topic only lends its name."""
    group = f"group.{topic.name}.{FROM_POSTGRES_GROUP_SUFFIX}"
    return replace(settings, database_url=database.url, kafka_group_id=group)


@contextlib.asynccontextmanager
async def relaying(settings: Settings) -> AsyncIterator[EventRelay]:
    """Run the relay in this process."""
    relay = EventRelay(settings)
    task = asyncio.create_task(relay.run(), name="relay")
    try:
        yield relay
    finally:
        relay.stop()
        await task


async def sent(settings: Settings) -> list[tuple[int, int, bytes]]:
    """Id, revision and line of each record, by revision."""
    (servers,) = settings.kafka_bootstrap_servers
    found = []
    for record in await read_topic(servers, settings.kafka_canonical_topic):
        headers = dict(record.headers)
        found.append((int(headers["event_id"]), int(headers["revision"]), record.value))
    return sorted(found, key=lambda one: one[1])


async def until_sent(settings: Settings, count: int) -> list[tuple[int, int, bytes]]:
    """Wait until this many records are there. First wait for offsets, which also count markers."""
    topic = settings.kafka_canonical_topic
    async with GrouplessClient(settings) as reader:

        async def enough() -> bool:
            bounds = await reader.offset_bounds(await reader.partitions(topic))
            if sum(bound.end for bound in bounds.values()) < count:
                return False
            if len(await sent(settings)) >= count:
                return True
            await asyncio.sleep(0.2)  # That read the whole topic.
            return False

        await until(enough, lambda: sent(settings))
    return await sent(settings)


async def ends_by(why: str, relaying: Awaitable[None]) -> None:
    with pytest.raises(FatalError, match=why):
        async with asyncio.timeout(30):
            await relaying


async def until_position(settings: Settings, *, in_first_pass: bool) -> None:
    """Wait until the relay has committed a position in that pass."""
    where = KafkaPartition(settings.kafka_canonical_topic, 0)
    async with GrouplessClient(settings) as reader:

        async def is_there() -> bool:
            committed = await reader.committed_offsets(settings.kafka_group_id, [where])
            position = parse_events_table_position(committed.get(where))
            return position is not None and (position.event_id is not None) == in_first_pass

        await until(is_there)


async def test_every_row_is_sent_and_a_merged_one_again_with_a_higher_revision(
    database: Database, settings: Settings
) -> None:
    async with open_store(database) as store:
        claim = await claimed(store)
        first = make_batch(envelope(1), envelope(2, worker_id=None), claim=claim)
        await store.write(first)
        async with relaying(settings):
            await until_sent(settings, 2)
            again = make_batch(envelope(2, worker_id="w"), envelope(3), claim=after(claim, first))
            await store.write(again)
            records = await until_sent(settings, 4)

    async with connected(database) as connection:
        stored = await stored_events(connection)
    times_sent = Counter(event_id for event_id, *_ in records)
    newest = {event_id: line for event_id, _, line in records}
    assert [times_sent[event.event_id or 0] for event in stored] == [1, 2, 1]
    assert [newest[event.event_id or 0] for event in stored] == list(map(to_canonical, stored))
    assert stored[1].worker_id == "w"


async def test_a_stored_event_has_the_headers_of_its_row(
    database: Database, settings: Settings
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    kept = msgspec.json.encode({"traceparent": trace})
    event = envelope(1, max_attempts=3, headers=kept, trace_id="0af7651916cd43dd8448eb211c80319c")
    async with open_store(database) as store:
        await store.write(make_batch(event, claim=await claimed(store)))
    async with relaying(settings):
        await until_sent(settings, 1)

    (record,) = await read_topic(
        settings.kafka_bootstrap_servers[0], settings.kafka_canonical_topic
    )
    headers = dict(record.headers)
    assert headers.pop("revision").isdigit()
    assert headers == {
        "event_id": str(event.event_id).encode(),
        "shape": event.shape.encode(),
        "rules_version": str(event.normalizer_version).encode(),
        "evidence": str(event.evidence).encode(),
        "max_attempts": b"3",
        "place": b"noetl.events:0:0:0:0",
        "trace_id": b"0af7651916cd43dd8448eb211c80319c",
        "traceparent": trace.encode(),
    }


async def test_no_commit_slips_under_what_was_sent(database: Database, settings: Settings) -> None:
    async with (
        connected(database) as late,
        connected(database) as early,
        relaying(settings) as relay,
    ):
        await early.execute(INSERT, 1, 1)
        await until_sent(settings, 1)
        transaction = late.transaction()
        await transaction.start()
        await late.execute(INSERT, 2, 2)
        await early.execute(INSERT, 3, 3)
        await until(lambda: relay.lag_s > 0 or relay.outcomes.total() > 1)
        assert [event_id for event_id, *_ in await sent(settings)] == [1]

        await transaction.commit()

        assert {event_id for event_id, *_ in await until_sent(settings, 3)} == {1, 2, 3}


async def test_a_writer_that_did_not_see_the_registration_is_waited_for(
    database: Database, settings: Settings
) -> None:
    async with connected(database) as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(INSERT, 1, 1)
        async with relaying(settings) as relay:
            await until(lambda: "still running" in (relay.why_waiting or ""))
            await transaction.commit()

            assert [event_id for event_id, *_ in await until_sent(settings, 1)] == [1]


async def test_a_writer_that_began_while_the_registration_was_written_is_waited_for(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is above that of every transaction that has ended."""
    async with connected(database) as registrar, connected(database) as writer:
        writing = writer.transaction()

        async def register(_: StoredEventReader, registration: RelayRegistration) -> None:
            async with registrar.transaction():
                await registrar.execute(_REGISTER_RELAY, *registration)
                await writing.start()
                await writer.execute(INSERT, 1, 1)

        monkeypatch.setattr(StoredEventReader, "register_relay", register)
        async with relaying(settings) as relay:
            await until(lambda: relay.why_waiting is None or "still running" in relay.why_waiting)
            assert relay.why_waiting
            await writing.commit()

            assert [event_id for event_id, *_ in await until_sent(settings, 1)] == [1]


async def test_a_database_whose_default_is_repeatable_read_hides_no_registration(
    database: Database, settings: Settings
) -> None:
    """A transaction with an old snapshot would not see that its events are to be noted."""
    await execute(
        database,
        f"alter database {database.name} set default_transaction_isolation = 'repeatable read'",
    )
    session = Session(database.url, application_name="writer", settings={})

    async def write(connection: asyncpg.Connection) -> None:
        await connection.fetchval("select count(*) from normalizer.events")
        async with relaying(settings):
            await until_position(settings, in_first_pass=False)
        await connection.execute(INSERT, 1, 1)

    await session.run(write)
    session.terminate()

    async with relaying(settings):
        assert [event_id for event_id, *_ in await until_sent(settings, 1)] == [1]


@pytest.mark.timeout(300)
async def test_kills_in_both_passes_lose_and_double_nothing(
    database: Database, settings: Settings
) -> None:
    command = replace(
        settings,
        kafka_group_id=settings.kafka_group_id.removesuffix(f".{FROM_POSTGRES_GROUP_SUFFIX}"),
    )
    async with connected(database) as connection:
        await connection.execute(INSERT, 1, 24_000)
        async with process(command, "--from-postgres", command="relay") as killed:
            await until_position(settings, in_first_pass=True)
            killed.kill()
        await until_position(settings, in_first_pass=True)
        async with process(command, "--from-postgres", command="relay") as killed:
            await until_position(settings, in_first_pass=False)
            for first in range(24_001, 27_001, 1_000):
                await connection.execute(INSERT, first, first + 999)
            await until_sent(settings, 25_000)
            await connection.execute(INSERT, 27_001, 30_000)
            killed.kill()
        async with process(command, "--from-postgres", command="relay"):
            records = await until_sent(settings, 30_000)

    assert Counter(event_id for event_id, *_ in records) == Counter(range(1, 30_001))


async def test_retention_and_forget_beside_it_keep_nothing_back_and_double_nothing(
    database: Database, settings: Settings
) -> None:
    """Nothing is sent of an execution that is deleted before its turn."""
    erasures = [
        Forget(database.url, ExecutionToForget(execution_id=number)) for number in range(1, 5)
    ]
    async with connected(database) as connection, connected(database) as maintainer:
        await maintainer.execute("set search_path = projector, normalizer, public")
        async with relaying(settings):
            await connection.execute(EXECUTIONS, 0)
            await until_position(settings, in_first_pass=False)
            async with asyncio.TaskGroup() as group:
                for erasure in erasures:
                    group.create_task(erasure.run(ErasureWhoAndWhy(who="alice", why="a test")))
                group.create_task(retained(maintainer, range(5, 9)))
                for turn in range(1, 6):
                    await connection.execute(EXECUTIONS, turn)
            left = {
                row[0] for row in await connection.fetch("select event_id from normalizer.events")
            }
            assert 0 < len(left) < 6 * 2_000

            async def all_sent() -> bool:
                return left <= {event_id for event_id, *_ in await sent(settings)}

            await until(all_sent)

    times = Counter(event_id for event_id, *_ in await sent(settings))
    assert set(times) <= set(range(6 * 2_000))
    assert {event_id for event_id, number in times.items() if number > 1} <= set(range(2_000))


async def retained(connection: asyncpg.Connection, executions: range) -> None:
    """Delete these executions, as retention does."""
    for execution_id in executions:
        async with connection.transaction():
            locked = await connection.fetchval(
                "select try_lock_executions(array[$1::bigint])", execution_id
            )
            await connection.execute("select delete_executions($1::bigint[])", locked)


async def test_a_second_relay_takes_over_and_the_first_ends(
    database: Database, settings: Settings
) -> None:
    first = EventRelay(settings)
    task = asyncio.create_task(first.run())
    await until(lambda: first.why_waiting is None)

    async with relaying(settings) as second, connected(database) as connection:
        await until(lambda: second.why_waiting is None)
        await connection.execute(INSERT, 1, 1)
        await ends_by("a database can have only one relay", task)
        assert [event_id for event_id, *_ in await until_sent(settings, 1)] == [1]


async def test_without_a_relay_nothing_is_noted_and_unregistering_forgets(
    database: Database, settings: Settings
) -> None:
    noted = "select count(*) from normalizer.event_changes"
    async with connected(database) as connection:
        await connection.execute(INSERT, 1, 10)
        assert await connection.fetchval(noted) == 0
        async with relaying(settings):
            await until_sent(settings, 10)
        await connection.execute(INSERT, 11, 2_500)
        assert await connection.fetchval(noted) == 3
        async with relaying(settings) as relay:
            await until_sent(settings, 2_500)
            await until(lambda: relay.lag_s == 0.0)
            await until(lambda: _is_zero(connection, noted))

        await unregister_relay(database.url)

        await connection.execute(INSERT, 3_000, 3_000)
        assert await connection.fetchval(noted) == 0


async def test_a_lost_position_and_a_restored_database_are_rejected_in_words(
    database: Database, settings: Settings
) -> None:
    async with relaying(settings) as relay:
        await until(lambda: relay.why_waiting is None)

    other = replace(settings, kafka_group_id=f"{settings.kafka_group_id}.other")
    await ends_by("another relay is registered", EventRelay(other).run())
    await execute(database, "update normalizer.relay_registration set registration = 'another'")
    await ends_by(r"the committed offset of group .* is gone", EventRelay(settings).run())


async def _is_zero(connection: asyncpg.Connection, statement: str) -> bool:
    return bool(await connection.fetchval(statement) == 0)


def test_after_a_restore_into_a_younger_cluster_revisions_are_greater_all_the_same() -> None:
    old = first_events_table_position(
        "old", TransactionSnapshot(1 << 40, 1 << 40, 1_000_000_000, 1)
    )
    new = first_events_table_position("new", TransactionSnapshot(700, 701, 1_002_000_000, 1))

    assert new.revision_base + 700 > old.revision_base + (1 << 40) + 1_000_000


def test_after_a_clock_was_set_back_revisions_of_the_next_registration_are_greater() -> None:
    old = first_events_table_position("old", TransactionSnapshot(700, 701, 1_000_000_000, 1))
    old = replace(old, revision=old.revision_base + 900)

    new = first_events_table_position("new", TransactionSnapshot(800, 801, 500_000_000, 1), old)

    assert new.revision_base + 800 > old.revision


async def test_a_page_below_a_revision_that_was_sent_is_rejected_in_words(
    database: Database, settings: Settings
) -> None:
    async with connected(database) as connection:
        async with relaying(settings):
            await connection.execute(INSERT, 1, 1)
            ((_, revision, _),) = await until_sent(settings, 1)
        await _set_position(settings, revision=revision + 1_000_000)
        await connection.execute(INSERT, 2, 2)

        await ends_by("was restored", EventRelay(settings).run())


async def test_numbers_that_a_restored_database_gave_again_are_rejected_in_words(
    database: Database, settings: Settings
) -> None:
    async with connected(database) as connection:
        async with relaying(settings):
            await connection.execute(INSERT, 1, 1)
            await until_sent(settings, 1)
        await connection.execute(INSERT, 2, 5)
        passed = await connection.fetchval("select pg_current_xact_id()::text::bigint")
        await connection.execute(INSERT, 6, 9)
        await _set_position(settings, transaction_id=passed)

        await ends_by("was restored", EventRelay(settings).run())


async def test_a_relay_that_is_unregistered_while_it_runs_ends_and_deletes_no_change_of_the_next(
    database: Database, settings: Settings
) -> None:
    first = EventRelay(settings)
    task = asyncio.create_task(first.run())
    await until(lambda: first.why_waiting is None)

    await unregister_relay(database.url)
    async with connected(database) as connection:
        await connection.execute(
            "insert into normalizer.relay_registration values (true, 'next', 'its')"
        )
        await connection.execute(INSERT, 1, 1)
        await ends_by("no longer registered", task)

        assert await connection.fetchval("select count(*) from normalizer.event_changes") == 1


async def test_unregistering_forgets_nothing_of_a_relay_that_registers_meanwhile(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, fetch = StoredEventReader(database.url), Session.fetch
    async with connected(database) as connection:

        async def fetch_and_register(*arguments: Any) -> Any:
            found = await fetch(*arguments)
            monkeypatch.undo()
            await reader.register_relay(RelayRegistration("next", "its"))
            await connection.execute(INSERT, 1, 1)
            return found

        await reader.register_relay(RelayRegistration("old", "its"))
        monkeypatch.setattr(Session, "fetch", fetch_and_register)
        await unregister_relay(database.url)
        reader.terminate()

        assert await connection.fetchval("select count(*) from normalizer.event_changes") == 1


@pytest.mark.timeout(120)
async def test_changes_of_large_events_are_sent_in_pages_that_fit_in_memory(
    database: Database,
) -> None:
    reader = StoredEventReader(database.url)
    await reader.register_relay(RelayRegistration("one", "group"))
    position = replace(
        first_events_table_position("one", TransactionSnapshot(0, 0, 0, 0)), event_id=None
    )
    pages = []
    async with connected(database) as connection:
        await connection.execute(INSERT, 1, 2_300)
        await connection.execute(
            "update normalizer.events set context = jsonb_build_object('text', repeat('x', 20000))"
        )
        await connection.execute("delete from normalizer.events where event_id % 100 = 0")
    while page := await reader.read_changes(position):
        pages.append(page)
        position = page.position
        await reader.delete_sent_changes(position)
    reader.terminate()

    ids = [event.event_id or 0 for page in pages for event in page.events]
    assert sorted(set(ids)) == [number for number in range(1, 2_301) if number % 100]
    assert len(ids) == len(set(ids))
    assert max(len(page.events) for page in pages) < 1.1 * BYTES_PER_PAGE / 20_000
    assert position.ids_sent == 0


async def test_a_row_that_no_line_may_hold_is_rejected_and_the_others_are_sent(
    database: Database, settings: Settings
) -> None:
    """Only SQL by hand writes such a row."""
    nested = "[" * 200 + "]" * 200
    async with connected(database) as connection:
        await connection.execute(INSERT, 1, 4)
        for event_id, value in ((2, '{"n": 1e400}'), (3, nested)):
            await connection.execute(
                "update normalizer.events set context = $2::text::jsonb where event_id = $1",
                event_id,
                value,
            )
    async with relaying(settings):
        records = await until_sent(settings, 2)

    rejected = await read_topic(settings.kafka_bootstrap_servers[0], settings.kafka_rejected_topic)
    details = [msgspec.json.decode(one.value)["quarantine"]["detail"] for one in rejected]
    assert [event_id for event_id, *_ in records] == [1, 4]
    assert sorted(detail.partition(": context")[0] for detail in details) == [
        "event 2",
        "event 3",
    ]


async def _set_position(settings: Settings, **fields: int) -> None:
    """Change the position in Kafka, as if more had been sent."""
    where = KafkaPartition(settings.kafka_canonical_topic, 0)
    producer = TransactionalProducer(settings, settings.kafka_group_id, where)
    await producer.start()
    position = parse_events_table_position(await producer.committed_offset())
    assert position
    await producer.write_and_commit((), replace(position, **fields).to_offset_and_metadata())
    await producer.stop()


async def test_silent_output_makes_it_unready_and_holds_up_a_stop_no_longer_than_a_batch(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(database, INSERT, 1, 10)

    with silent_output(monkeypatch) as silent:
        async with (
            asyncio.timeout(DEADLINE_S),
            relaying(replace(settings, stop_timeout_s=1)) as relay,
        ):
            await until(lambda: bool(silent.asking))
            waits_for = relay.why_waiting

    assert waits_for is not None
    assert await sent(settings) == []


async def test_a_position_before_changes_that_were_deleted_is_rejected_in_words(
    database: Database, settings: Settings
) -> None:
    """Kafka may lose its last commits: what they had sent is no longer noted."""
    noted = "select count(*) from normalizer.event_changes"
    async with connected(database) as connection, relaying(settings):
        await connection.execute(INSERT, 1, 1)
        await until_sent(settings, 1)
        await until(lambda: _is_zero(connection, noted))
        before = await connection.fetchval("select pg_current_xact_id()::text::bigint")
        await connection.execute(INSERT, 2, 2)
        await until_sent(settings, 2)
        await until(lambda: _is_zero(connection, noted))
    await _set_position(settings, transaction_id=before)

    await ends_by("Kafka was set back", EventRelay(settings).run())
