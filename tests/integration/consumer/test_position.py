"""`normalizer position`: past a record or back, beside a live service; nothing is ever LOST."""

import random
from typing import Any

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from normalizer.cli import ledger_check, partition_positions, position_commands
from normalizer.config.settings import Settings
from normalizer.errors import BrokerUnavailableError, PositionMovedError
from normalizer.kafka import GrouplessClient, KafkaPartition
from normalizer.kafka.client_setup import FetchedChunk
from normalizer.store.position_changes import PositionChange, PositionChangeApplier, change_position
from tests.support.commands import invoked, typed
from tests.support.factories import after, envelope, make_batch, make_claim, raw_event, rejected
from tests.support.feed import Feed
from tests.support.job_runs import job_settings
from tests.support.service_runs import environment, running, until
from tests.support.stack import Database
from tests.support.table_rows import (
    assert_ledger_holds,
    claimed,
    connected,
    count,
    open_store,
    read_position,
    read_totals,
)

WHY = ("--why", "ticket 17")


async def position_command(settings: Settings, *arguments: str) -> tuple[int, str]:
    """Exit code and what was said, of `normalizer position ...`."""
    return await invoked(position_commands.position, *arguments, environment=environment(settings))


async def lost(database: Database, settings: Settings | None = None) -> list[str]:
    """Return what the ledger calls lost, in the tables, and in the log if there is one."""
    if settings is None:
        return [
            str(one) async for one in ledger_check.verify_ledger(database.url, None) if one.wrong
        ]
    async with GrouplessClient(settings) as log:
        return [
            str(one) async for one in ledger_check.verify_ledger(database.url, log) if one.wrong
        ]


async def test_a_record_is_skipped_into_quarantine_and_redriven_from_there(feed: Feed) -> None:
    """Beside a live service, which goes on by itself."""
    # A service that is slow for a while claims nothing again: that would change the epoch.
    settings = feed.settings(kafka_session_timeout_ms=30_000)
    at = f"{feed.name}:0"
    async with connected(feed.database) as connection:
        await connection.execute(
            """
            create function projector.refuse() returns trigger language plpgsql as $$
            begin
                raise exception 'no' using errcode = '57014';
            end $$;
            create trigger refuse before insert on projector.execution_facts
                for each row when (new.execution_id = 13) execute function projector.refuse();
            """
        )
        async with running(settings):
            await feed.send(range(3), partition=0)
            poison = msgspec.json.encode(raw_event(3, execution_id=13))
            await feed.producer.send_and_wait(feed.name, poison, partition=0)
            await feed.send(range(4, 9), partition=0)
            await feed.until_read({0: 3})

            elsewhere = await position_command(settings, "skip", at, "--offset", "4", *WHY)
            dry = await position_command(settings, "skip", at, "--offset", "3", *WHY, "--dry-run")
            assert (await feed.position())["next_offset"] == 3
            epoch = (await feed.position())["epoch"]
            done = await typed(settings, "position", "skip", at, "--offset", "3", *WHY)

            await feed.until_read({0: 9})
            assert (await feed.position())["epoch"] == epoch + 2
            assert await feed.events() == 8

        await connection.execute("drop function projector.refuse cascade")
        change = await connection.fetchrow("select * from normalizer.position_changes")
        rejected = await connection.fetchrow("select * from normalizer.quarantine")
        assert await count(connection, "normalizer.gaps") == 0
        await assert_ledger_holds(connection)
        assert await lost(feed.database, settings) == []
        redriven = await typed(settings, "quarantine", "redrive", "--reason", "skipped")
        assert await count(connection, "normalizer.events") == 9

    assert elsewhere[0] == 1
    assert "the position is now 3, not the expected one, so nothing was changed" in elsewhere[1]
    assert (dry[0], done[0], redriven[0]) == (0, 0, 0)
    assert "nothing was changed. It would be" in dry[1]
    assert "1 records to quarantine as skipped, 0 offsets to gaps; epoch" in done[1]
    assert (rejected["reason"], rejected["source_offset"]) == ("skipped", 3)
    assert "ticket 17" in rejected["detail"]
    assert (change["action"], change["why"], change["topic"]) == ("skip", "ticket 17", feed.name)
    assert (change["from_offset"], change["to_offset"], change["incarnation"]) == (3, 4, 0)
    assert "@" in change["who"]
    assert change["epoch"] == epoch + 1


async def test_a_rewind_is_read_again_by_an_idle_service_and_adds_nothing(feed: Feed) -> None:
    settings = feed.settings()
    async with running(settings):
        await feed.send(range(20), partition=1)
        await feed.producer.send_and_wait(feed.name, b"{broken", partition=1)
        await feed.until_read({1: 21})
        await feed.connection.execute("delete from normalizer.events where source_offset = 7")

        done = await position_command(
            settings, "rewind", f"{feed.name}:1", "--offset", "5", *WHY, "--who", "me"
        )

        async def read_again() -> bool:
            position = (await feed.positions())[1]
            return bool(position["next_offset"] == 21 and position["rewound"] == 16)

        await until(read_again)
        position = (await feed.positions())[1]
        assert await feed.events() == 20
        who = await feed.connection.fetchval("select who from normalizer.position_changes")
        code, shown = await typed(settings, "position", "show", feed.name)

    misspelt = await position_command(settings, "show", "wrong.topic", "--json")
    _, as_json = await position_command(settings, "show", f"{feed.name}:1", "--json")
    assert done[0] == 0
    assert "from 21 to 5: 16 offsets will be read again" in done[1]
    assert (position["records"], position["duplicate"], position["stored"]) == (37, 15, 21)
    assert who == "me"
    assert code == 0
    assert misspelt[0] == 2
    assert misspelt[1].startswith("error: wrong.topic was never read into this database. ")
    assert shown.splitlines()[0].split()[:5] == [
        *("topic", "partition", "incarnation", "next_offset", "log_end")
    ]
    (one,) = msgspec.json.decode(as_json)
    assert (one["partition"], one["next_offset"], one["log_end"], one["rewound"]) == (1, 21, 21, 16)


async def test_expired_offsets_are_skipped_as_a_gap(feed: Feed, admin: AIOKafkaAdminClient) -> None:
    settings = feed.settings()
    at = f"{feed.name}:0"
    async with running(settings):
        await feed.send(range(10), partition=0)
        await feed.until_read({0: 10})
    await feed.send(range(10, 30), partition=0)
    await admin.delete_records({TopicPartition(feed.name, 0): RecordsToDelete(20)})

    behind = await position_command(settings, "rewind", at, "--offset", "3", *WHY)
    skipped = await position_command(settings, "skip", at, "--offset", "10", *WHY)
    two = await position_command(settings, "skip", at, "--offset", "20", "--to", "22", *WHY)

    async with connected(feed.database) as connection:
        gaps = await connection.fetch(
            "select first_offset, next_offset, reason from projector.gaps"
        )
        rejected = await connection.fetch(
            "select source_offset from normalizer.quarantine order by 1"
        )
        position = await read_position(connection)
        assert await lost(feed.database, settings) == []
        await assert_ledger_holds(connection)
    assert (behind[0], skipped[0], two[0]) == (2, 0, 0)
    assert "log now begins at offset 20" in behind[1]
    assert [tuple(row) for row in gaps] == [(10, 20, "skipped")]
    assert [row["source_offset"] for row in rejected] == [20, 21]
    assert (position["next_offset"], position["holes"]) == (22, 10)


async def test_invalid_arguments_are_rejected_with_a_sentence(feed: Feed) -> None:
    async with (
        open_store(feed.database) as store,
        GrouplessClient(settings := feed.settings()) as log,
    ):
        claim = await store.claim_partition(
            feed.name, 0, cluster_id=await log.cluster_id(), log_start=0
        )
        await store.write(make_batch(*map(envelope, range(3)), claim=claim))
    at = f"{feed.name}:0"

    for arguments in (
        ("skip", at, "--offset", "3"),
        ("skip", feed.name, "--offset", "3", *WHY),
        ("skip", at, "--offset", "3", "--to", "3", *WHY),
        ("skip", at, "--offset", "3", *WHY),
        ("rewind", at, "--offset", "3", *WHY),
        ("rewind", at, "--offset", "0", "--why", " "),
        ("rewind", f"{feed.name}:9", "--offset", "0", *WHY),
    ):
        code, said = await position_command(settings, *arguments)

        assert (code, "rror: " in said) == (2, True), (arguments, said)

    async with connected(feed.database) as connection:
        assert await count(connection, "normalizer.position_changes") == 0


@pytest.mark.every_postgres
async def test_the_owner_of_a_moved_partition_has_to_claim_it_again(database: Database) -> None:
    async with open_store(database) as store, connected(database) as connection:
        claim = await claimed(store)
        first = make_batch(*map(envelope, range(3)), claim=claim)
        await store.write(first)

        epoch = await change_position(
            database.url, PositionChange(action="rewind", who="me", why="test"), _back(3, 1)
        )

        assert [type(why) for _, why in await store.find_lost_claims([claim])] == [
            PositionMovedError
        ]
        with pytest.raises(PositionMovedError, match="operator:me moved"):
            await store.write(make_batch(envelope(3), claim=after(claim, first)))
        again = await claimed(store)
        assert (again.epoch, again.next_offset) == (epoch + 1, 1)
        assert await store.find_lost_claims([again]) == []
        assert (
            await store.write(make_batch(*map(envelope, (1, 2, 3)), claim=again))
        ).duplicate == 2
        await assert_ledger_holds(connection)


async def test_an_operator_waits_longer_than_a_statement_of_the_batch_in_hand_may_take(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[dict[str, int]] = []

    async def look(connection: Any) -> None:
        rows = await connection.fetch(
            """
            select name, setting::integer
            from   pg_settings
            where  name in ('lock_timeout', 'statement_timeout')
            """
        )
        limits.append(dict(rows))

    async def lock_and_look(self: PositionChangeApplier, connection: Any, parts: Any) -> Any:
        await look(connection)
        return await lock(self, connection, parts)

    lock = PositionChangeApplier.lock
    monkeypatch.setattr(PositionChangeApplier, "lock", lock_and_look)
    async with open_store(database) as store:
        claim = await claimed(store)
        await store.write(make_batch(*map(envelope, range(3)), claim=claim))
        await change_position(database.url, _by("rewind"), _back(3, 1))
        await store._session.run(look)

    operator, batch = limits
    assert batch["statement_timeout"] < operator["lock_timeout"] < operator["statement_timeout"]


async def test_the_ledger_is_explained_after_any_skips_and_rewinds(database: Database) -> None:
    """A log of records, bad records, and holes, which is read, skipped, and rewound at random."""
    chance = random.Random(seed := random.randrange(1 << 32))
    print(f"seed {seed}")  # noqa: T201 - shown where it fails
    log: list[Any] = [
        chance.choice([envelope(at), envelope(at), rejected(), None]) for at in range(200)
    ]
    async with open_store(database) as store, connected(database) as connection:
        claim = await claimed(store)
        for step in range(1, 41):
            at = claim.next_offset
            match chance.choice(["read", "read", "skip", "rewind"]):
                case "read":
                    batch = _read(log, claim, min(at + chance.randrange(1, 30), len(log)))
                    if batch.parts[0].next_offset > at:
                        await store.write(batch)
                case "skip" if at < len(log):
                    part = _read(log, claim, at + 1, skipped=True).parts[0]
                    await change_position(database.url, _by("skip"), part)
                case "rewind" if at > 0:
                    await change_position(
                        database.url, _by("rewind"), _back(at, chance.randrange(at))
                    )
            if step % 8 == 0:
                assert await lost(database) == [], seed
            claim = await claimed(store)
        totals = await read_totals(connection)
        await assert_ledger_holds(connection)

    assert totals.records > 0


def _by(action: Any) -> PositionChange:
    return PositionChange(action=action, who="me", why="test")


def _back(position: int, offset: int) -> Any:
    (part,) = make_batch(claim=make_claim(next_offset=position)).parts
    return msgspec.structs.replace(part, next_offset=offset)


def _read(log: list[Any], claim: Any, to: int, *, skipped: bool = False) -> Any:
    """The batch from the claim's position to this offset."""
    at = claim.next_offset
    said = [rejected(reason="skipped") if skipped else one for one in log[at:to] if one is not None]
    holes: list[tuple[int, int]] = []
    for offset in (offset for offset in range(at, to) if log[offset] is None):
        if holes and holes[-1][1] == offset:
            holes[-1] = (holes[-1][0], offset + 1)
        else:
            holes.append((offset, offset + 1))
    return make_batch(*said, claim=claim, holes=holes)


async def test_a_partition_stopped_at_an_unreadable_batch_goes_on_once_it_is_skipped(
    feed: Feed,
) -> None:
    """The process that stopped it reads on, without a restart."""
    settings = feed.settings()
    partition = feed.partition(2)
    async with running(settings) as service:
        await feed.send(range(5), partition=2)
        await feed.until_read({2: 5})
        service.ownership.stop_partition(
            partition, PositionMovedError("unreadable", topic=feed.name, partition=2)
        )
        await feed.send(range(5, 9), partition=2)

        await position_command(settings, "skip", f"{feed.name}:2", "--offset", "5", *WHY)

        await feed.until_read({2: 9})
        assert service.ownership.stop_reasons_by_partition == {}
        assert await feed.events() == 8


class SilentLog:
    """Brokers that say where the log ends, and give nothing of it."""

    def __init__(self) -> None:
        self.requests = 0

    async def fetch_chunk(
        self, partition: KafkaPartition, offset: int, *, incarnation: int
    ) -> FetchedChunk:
        assert incarnation == 0
        self.requests += 1
        return FetchedChunk(partition=partition, from_offset=offset, next_offset=offset, records=[])


async def test_a_log_of_which_nothing_comes_is_not_read_offset_by_offset(
    database: Database,
) -> None:
    """Each such answer takes half a second: ten thousand of them more than an hour."""
    async with open_store(database) as store:
        await claimed(store)
    settings = job_settings(database)
    (position,) = await partition_positions.read_positions(settings, None, None, None)
    log = SilentLog()

    passed = await partition_positions._read(log, position, 5, 9_000, 10_000)  # type: ignore[arg-type]

    assert (passed, log.requests) == (([], 9_000), 3)
    with pytest.raises(BrokerUnavailableError, match="at or after offset 5"):
        await partition_positions._read(log, position, 5, None, 10_000)  # type: ignore[arg-type]
