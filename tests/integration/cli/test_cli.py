"""The commands against a real broker and database, a few of them as a person types them."""

import re
import secrets
import time
from urllib.parse import urlsplit

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from normalizer.cli.check import run_checks
from normalizer.cli.explain import explain, parse_required_record_address
from normalizer.cli.ledger_check import verify_ledger
from normalizer.config.settings import Settings
from normalizer.core.normalize import Normalizer
from normalizer.errors import FatalError
from normalizer.kafka import GrouplessClient, optional_groupless_client
from normalizer.store.quarantine_reader import (
    format_quarantine_entry,
    format_quarantine_table,
    list_quarantine_entries,
    read_quarantine_entry,
)
from tests.integration.jobs.test_redrive import as_user
from tests.support.commands import typed
from tests.support.factories import raw_event
from tests.support.feed import Feed
from tests.support.service_runs import (
    Watcher,
    recreate_topic,
    send,
    watching,
)
from tests.support.stack import Database, Topic

ONE_PARTITION = pytest.mark.parametrize("topic", [1], indirect=True)
SECRET = "hunter2"


async def checked(settings: Settings) -> tuple[int, str]:
    """What `normalizer check` ends with and prints."""
    async with GrouplessClient(settings) as log:
        found = [finding async for finding in run_checks(settings, log)]
    return any(one.is_failure for one in found), "".join(f"{one}\n" for one in found)


async def verified(settings: Settings) -> tuple[int, str]:
    """What `normalizer ledger verify` ends with and prints."""
    async with optional_groupless_client(settings) as log:
        found = [one async for one in verify_ledger(settings.required_database_url, log)]
    return any(one.wrong for one in found), "".join(f"{one}\n" for one in found)


async def explained(settings: Settings, coordinates: str, incarnation: int | None = None) -> str:
    """What `normalizer explain` prints."""
    async with GrouplessClient(settings) as log:
        lines = await explain(
            settings.required_database_url,
            log,
            parse_required_record_address(coordinates),
            incarnation=incarnation,
            normalizer=Normalizer(),
        )
    return "\n".join(lines)


@ONE_PARTITION
async def test_check_says_what_may_be_done(
    settings: Settings, topic: Topic, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer
) -> None:
    kept = ConfigResource(
        ConfigResourceType.TOPIC,
        topic.name,
        {"retention.ms": str(36 * 3_600_000), "retention.bytes": "1073741824"},
    )
    await admin.alter_configs([kept])
    await send(producer, topic, range(3))

    code, said = await typed(settings, "check")

    assert code == 0, said
    assert "FAIL" not in said
    for line in (
        f"topic {topic.name}: 1 partitions, 3 offsets in the log",
        f"topic {topic.name}: may be read",
        f"topic {topic.name}: records are kept 36 hours, up to 1073741824 bytes a partition",
        f"group {settings.kafka_group_id}: new: no process has joined it yet",
        "migrations: ",
        "rights: may write",
        "statistics: may see",
        "clock: the database's is ",
        "positions: ",
    ):
        assert line in said
    assert re.search(r"the database's is 0\.[0-2] s", said)


async def test_check_says_what_to_type_for_each_failure(
    settings: Settings, empty_database: Database
) -> None:
    wrong = msgspec.structs.replace(
        settings, database_url=empty_database.url, kafka_topics=("no.such.topic",)
    )

    code, said = await checked(wrong)

    assert code == 1
    assert "FAIL  topic no.such.topic: no such topic" in said
    servers = ",".join(settings.kafka_bootstrap_servers)
    command = f"kafka-topics.sh --bootstrap-server {servers} --topic no.such.topic"
    assert f"{command} --create --partitions 6 (if it was read before, " in said
    assert "FAIL  migrations: " in said
    assert "normalizer migrate" in said


@ONE_PARTITION
async def test_missing_rights_are_listed_with_their_grants(
    settings: Settings, database: Database, topic: Topic, producer: AIOKafkaProducer
) -> None:
    await send(producer, topic, range(1))
    role = f"test_{secrets.token_hex(6)}"
    parts = urlsplit(database.url)
    poor = msgspec.structs.replace(
        settings,
        database_url=parts._replace(netloc=f"{role}:x@{parts.hostname}:{parts.port}").geturl(),
    )
    async with watching(database.admin_url) as admin:
        await admin.connection.execute(f"create role {role} login password 'x'")
        try:
            _, nothing = await checked(poor)
            await admin.connection.execute(f"grant projector_reader to {role}")
            _, views_only = await checked(poor)
            await admin.connection.execute(f"grant normalizer_writer to {role}")
            blind = await checked(poor)
            await admin.connection.execute(f"grant pg_read_all_stats to {role}")
            enough = await checked(poor)
        finally:
            await admin.connection.execute(f"drop role {role}")

    assert nothing.count("FAIL") == views_only.count("FAIL") == 1
    assert "FAIL  rights: missing: usage on schema normalizer" in nothing
    assert f"grant normalizer_writer to {role};" in nothing
    # A login for dashboards must not become one that writes.
    assert f"FAIL  rights: {role} is a login for dashboards" in views_only
    assert "set DATABASE_URL to the service's login" in views_only
    assert "grant" not in views_only
    assert (blind[0], blind[1].count("FAIL")) == (0, 0), blind[1]
    assert "warn  statistics: other roles' snapshots are hidden" in blind[1]
    assert (
        f"so the alert NormalizerSnapshotHeld can't fire\n      grant pg_read_all_stats to {role};"
        in blind[1]
    )
    assert enough[0] == 0, enough[1]
    assert "snapshots are hidden" not in enough[1]


async def test_each_right_that_a_restore_lost_is_named(
    settings: Settings, database: Database, watcher: Watcher
) -> None:
    said = {}
    async with as_user(database, "normalizer_writer") as writer:
        of_a_writer = msgspec.structs.replace(settings, database_url=writer.url)
        for right in (
            "select on normalizer.retention_horizon",
            "insert on normalizer.merged_records",
            "usage on sequence normalizer.batch_id",
            "execute on function normalizer.gen_snowflake()",
            "select (source_offset) on normalizer.quarantine_raw",
            "select on projector.agreement",
        ):
            await watcher.connection.execute(f"revoke {right} from normalizer_writer")
            said[right] = await checked(of_a_writer)
            await watcher.connection.execute(f"grant {right} to normalizer_writer")

    for right, (code, lines) in said.items():
        assert code == 1, right
        assert f"FAIL  rights: missing: {right}\n" in lines
        assert f"      grant {right} to normalizer_writer;\n" in lines


@ONE_PARTITION
async def test_check_sees_a_topic_recreated(feed: Feed, settings: Settings) -> None:
    await feed.send(range(3))
    await feed.read_to({0: 3}, settings)
    await feed.connection.execute(
        "update normalizer.source_positions set next_offset = 9, holes = 6"
    )

    code, said = await checked(settings)

    assert code == 1
    assert "log ends at 3, but the position is 9: the topic was recreated\n" in said
    assert "start once with --accept-reset" in said


@ONE_PARTITION
async def test_every_offset_is_explained(
    feed: Feed, settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    first = raw_event(1, meta={"attempts": 2})
    for value in (
        msgspec.json.encode(first),
        msgspec.json.encode(first),
        b"{broken",
        None,
        msgspec.json.encode(raw_event(2, execution_id=77, context={"password": SECRET})),
    ):
        await feed.producer.send_and_wait(feed.name, value, key=b"7")
    async with (
        AIOKafkaProducer(
            bootstrap_servers=feed.bootstrap_servers, transactional_id=feed.name
        ) as transactional,
        transactional.transaction(),
    ):
        await transactional.send_and_wait(feed.name, msgspec.json.encode(raw_event(3)))
    await feed.read_to({0: 7}, settings)
    await feed.producer.send_and_wait(feed.name, b"{}")

    async def of(offset: int) -> str:
        return await explained(settings, f"{feed.name}:0:{offset}")

    code, stored = await typed(settings, "explain", f"{feed.name}:0:0")
    assert (code, stored) == (0, f"{await of(0)}\n")
    assert f"event 0 of {feed.name}[0]@0 is stored as {first['event_id']}" in stored
    assert "shape executor (no rule depends on it)" in stored
    assert "attempts 2: from the producer" in stored
    assert "status COMPLETED: from the event's name, and no word says otherwise" in stored
    assert "created_at 2025-11-24 16:00:00.000000Z: from the producer" in stored
    assert "still there" in stored
    assert "today's rules (version " in stored
    duplicate = await of(1)
    assert "reported before: duplicate of, or merged into" in duplicate
    assert f"of {feed.name}[0]@0 is stored" in duplicate
    assert "in quarantine as entry 1: invalid_json" in await of(2)
    assert "today's rules ignore it: tombstone" in await of(3)
    assert SECRET not in await of(4)
    assert "are a gap: the log had no record there" in await of(6)
    assert "not read yet: the position is 7" in await of(7)
    assert "not there, because the log ends at 8" in await of(99)

    await recreate_topic(admin, feed.topic)
    async with AIOKafkaProducer(bootstrap_servers=feed.bootstrap_servers) as to_the_new_one:
        await send(to_the_new_one, feed.topic, range(100, 110))
    assert "not read: offset 5 holds another record than the one that was read" in await of(0)
    await feed.read_to({0: 10}, settings, accept_reset=True)
    assert "still there" in await of(0)
    said = await explained(settings, f"{feed.name}:0:0", incarnation=0)
    assert ("a later incarnation is there now" in said, "today's" in said) == (True, False)


@ONE_PARTITION
async def test_the_quarantine_is_displayed_redacted_unless_raw(
    feed: Feed, settings: Settings
) -> None:
    for value in (b'{"password":"hunter2"}', b'{"password":"hunter2"'):
        await feed.producer.send_and_wait(feed.name, value, key=b"7")
    await feed.read_to({0: 2}, settings)

    url = settings.required_database_url
    code, listed = await typed(settings, "quarantine", "list")
    assert (code, listed) == (0, f"{format_quarantine_table(await list_quarantine_entries(url))}\n")
    assert "not_an_event" in listed
    assert f"{feed.name}:0:1" in listed
    assert len(await list_quarantine_entries(url, reason="invalid_json")) == 1
    for number, shown in ((1, '{"password":"[REDACTED]"}'), (2, "--raw shows it")):
        entry, kept = await read_quarantine_entry(url, number)
        redacted = format_quarantine_entry(entry, kept, raw=False)
        assert shown in redacted
        assert SECRET not in redacted
        assert SECRET in format_quarantine_entry(entry, kept, raw=True)
    code, raw = await typed(settings, "quarantine", "show", "2", "--raw")
    assert (code, SECRET in raw) == (0, True)
    await feed.connection.execute(
        "update normalizer.quarantine set redriven_at = now() where quarantine_id = 2"
    )
    assert len(await list_quarantine_entries(url)) == 1
    assert "; redriven 2" in format_quarantine_table(
        await list_quarantine_entries(url, redriven=True)
    )
    assert "redriven at" in format_quarantine_entry(*await read_quarantine_entry(url, 2), raw=False)
    assert "was in quarantine as entry 2" in await explained(settings, f"{feed.name}:0:1")
    code, said = await typed(settings, "quarantine", "show", "99")
    assert (code, "there is no entry with this id" in said) == (2, True)


@ONE_PARTITION
async def test_rejected_bytes_are_for_the_roles_that_the_help_names(
    feed: Feed, settings: Settings
) -> None:
    await feed.producer.send_and_wait(feed.name, b"{broken")
    await feed.read_to({0: 1}, settings)

    code, helped = await typed(settings, "quarantine", "show", "--help")

    async with as_user(feed.database, "normalizer_writer") as writer:
        with pytest.raises(FatalError, match="42501"):
            await read_quarantine_entry(writer.url, 1)
    async with as_user(feed.database, "normalizer_writer", "normalizer_redriver") as redriver:
        _, kept = await read_quarantine_entry(redriver.url, 1)
    assert kept is not None
    assert kept.value == b"{broken"
    assert "the roles normalizer_redriver and normalizer_writer" in " ".join(helped.split())
    assert code == 0


@ONE_PARTITION
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            "delete from normalizer.events where source_offset = 3",
            "LOST: stored: the totals say 5, the table holds 4",
        ),
        (
            "update normalizer.source_positions set stored = stored - 1, duplicate = duplicate + 1",
            "MORE: stored: the totals say 4, the table holds 5",
        ),
    ],
    ids=["lost", "more"],
)
async def test_the_ledger_explains_every_offset_and_finds_what_differs(
    feed: Feed, settings: Settings, damage: str, said: str
) -> None:
    await feed.send(range(5))
    await feed.read_to({0: 5}, settings)

    differs, whole = await verified(settings)
    assert (differs, "5 stored" in whole, "explained" in whole) == (0, True, True)

    await feed.connection.execute(damage)
    code, found = await typed(settings, "ledger", "verify")
    assert (code, said in found, found.count("LOST") + found.count("MORE")) == (1, True, 1)


@ONE_PARTITION
async def test_markers_of_transactions_share_a_row_and_a_record_among_them_is_found(
    feed: Feed, settings: Settings
) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=feed.bootstrap_servers, transactional_id=feed.name
    ) as transactional:
        for number in range(50):
            async with transactional.transaction():
                await send(transactional, feed.topic, range(number, number + 1))
    await feed.read_to({0: 100}, msgspec.structs.replace(settings, batch_rows=10))

    rows = await feed.connection.fetch("select reason, offsets from projector.gaps")
    began_s = time.monotonic()
    code, said = await verified(settings)
    took_s = time.monotonic() - began_s

    assert [tuple(row) for row in rows] == [("hole", 50)]
    assert (code, "50 in gaps" in said, "explained" in said) == (0, True, True), said
    assert took_s < 10
    await feed.connection.execute(
        """
        update normalizer.source_positions
        set    records = 49, holes = 51, outcomes = 49, stored = 49;
        delete from normalizer.events where source_offset = 40;
        update normalizer.gaps set missing = missing + '{[40, 41)}', offsets = 51
        """
    )
    code, said = await verified(settings)
    assert code == 1
    assert "LOST: 1 records in gaps, the first at offset 40" in said


@ONE_PARTITION
async def test_check_warns_of_records_that_kafka_deleted_before_they_were_read(
    feed: Feed, settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    """The service passes them by itself, so nothing fails: but somebody has to raise retention."""
    await feed.send(range(3))
    await feed.read_to({0: 3}, settings)
    await feed.send(range(3, 9))
    await admin.delete_records({TopicPartition(feed.name, 0): RecordsToDelete(7)})

    code, said = await checked(settings)

    assert code == 0, said
    assert f"position of {feed.name}[0]: Kafka deleted offsets 3 to 6 before they were read" in said
    assert "all match their logs" not in said
