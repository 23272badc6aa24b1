"""Checks what this process may and may not do in Kafka and PostgreSQL, line by line."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import asyncpg
import msgspec

from normalizer.core.batch import LastRecord
from normalizer.errors import FatalError, NormalizerError
from normalizer.kafka import Bounds, KafkaPartition, TopicReader, why_reset
from normalizer.settings import Settings, masked_url
from normalizer.store.migrate import REMEDY, read_status
from normalizer.store.read_only import read_only_connection

ANSWER_S: Final = 20.0
SKEW_S: Final = 5.0
OLDEST_POSTGRES: Final = 150_000
AT_ONCE: Final = 4
"""Statements over all of events that may run at once: a dump, a comparison, an export, one more."""
GRID_WARNING: Final = timedelta(days=730)

_RIGHTS: Final = """
    select   wanted.what, wanted.type
    from     (
                 values ('normalizer.events', 'select'), ('normalizer.events', 'insert'),
                        ('normalizer.events', 'update'), ('normalizer.source_positions', 'select'),
                        ('normalizer.source_positions', 'insert'),
                        ('normalizer.source_positions', 'update'), ('normalizer.gaps', 'insert'),
                        ('normalizer.gaps', 'update'),
                        ('normalizer.quarantine', 'insert'),
                        ('normalizer.quarantine_raw', 'insert'),
                        ('normalizer.assigned_ids', 'insert')
             ) as wanted (what, type)
    where    not has_table_privilege(wanted.what, wanted.type)
    order by wanted.what, wanted.type
"""

# A statement over all of events locks every partition with every index.
_GRID: Final = """
    select (select count(*) from normalizer.event_partitions)
           * (
                 select 1 + count(*)
                 from   pg_index
                 where  indrelid = 'normalizer.events'::regclass
             ) as locks,
           current_setting('max_locks_per_transaction')::bigint
           * (
                 current_setting('max_connections')::bigint
                 + current_setting('max_prepared_transactions')::bigint
             ) as room,
           (
               select timestamptz '2024-01-01 00:00:00Z'
                      + (low >> 23) * interval '1 millisecond'
               from   normalizer.event_partitions
               where  name = 'events_future'
           ) as doubled_until,
           (
               select timestamptz '2024-01-01 00:00:00Z'
                      + ((low - normalizer.least_derived_id()) >> 22) * interval '1 millisecond'
               from   normalizer.event_partitions
               where  name = 'events_derived_future'
           ) as derived_until
"""

_POSITIONS: Final = """
    select   distinct on (topic, partition)
             topic, partition, incarnation, cluster_id, next_offset,
             last_offset, last_recorded_ms, last_crc
    from     normalizer.source_positions
    where    topic = any($1::text[])
    order by topic, partition, incarnation desc
"""


class CheckResult(msgspec.Struct, frozen=True):
    """One line of the report; `remedy`, what to do about it, is set where a check fails."""

    about: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        if self.remedy:
            return f"FAIL  {self.about}: {self.message}\n      {self.remedy}"
        return f"ok    {self.about}: {self.message}"


async def check(
    settings: Settings, log: TopicReader, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[CheckResult]:
    """Check Kafka, then the database, then whether they fit together. Changes nothing.

    A check that depends on a failed one is left out.
    """
    kafka = _Kafka(settings, log)
    database = _Database(settings, clock)
    steps: list[tuple[_Kafka | _Database, Callable[[], AsyncIterator[CheckResult]]]] = [
        (kafka, kafka.connects),
        *((kafka, partial(kafka.topic, topic)) for topic in settings.kafka_topics),
        (kafka, kafka.group),
        (database, database.connects),
        (database, database.migrations),
        (database, database.rights),
        (database, database.partitions),
        (database, database.clock),
        (kafka, partial(_positions, kafka, database)),
    ]
    for end, step in steps:
        try:
            async with asyncio.timeout(ANSWER_S):
                findings = [finding async for finding in step()]
        except (NormalizerError, TimeoutError) as error:
            about, remedy = end.trouble
            findings = [CheckResult(about, str(error) or f"no answer in {ANSWER_S:.0f} s", remedy)]
        for finding in findings:
            yield finding


class _Kafka:
    """Checks the brokers, as far as the service needs them."""

    def __init__(self, settings: Settings, log: TopicReader) -> None:
        self._settings = settings
        self._log = log
        self.cluster_id: str | None = None
        self.bounds: dict[KafkaPartition, Bounds] = {}
        servers = ",".join(settings.kafka_bootstrap_servers)
        self.trouble = (
            f"kafka {servers}",
            "see KAFKA_BOOTSTRAP_SERVERS and the security settings (`normalizer config`)",
        )

    async def connects(self) -> AsyncIterator[CheckResult]:
        """Connect; report address, user and encryption."""
        self.cluster_id = await self._log.cluster_id()
        settings = self._settings
        how: str = settings.kafka_security_protocol
        if how.startswith("SASL"):
            how += f", {settings.kafka_sasl_mechanism} as {settings.kafka_sasl_username}"
        yield CheckResult(self.trouble[0], f"cluster {self.cluster_id}, {how}")

    async def topic(self, topic: str) -> AsyncIterator[CheckResult]:
        """Check that the topic exists and is readable; report its retention."""
        if self.cluster_id is None:
            return
        partitions = await self._log.partitions(topic)
        if not partitions:
            yield await self._unseen(topic)
            return
        bounds = await self._log.bounds(partitions)
        self.bounds |= bounds
        records = sum(bound.end - bound.start for bound in bounds.values())
        yield CheckResult(f"topic {topic}", f"{len(partitions)} partitions, {records} offsets held")
        async for finding in self._readable(topic, bounds):
            yield finding
        async for finding in self._retention(topic):
            yield finding

    async def group(self) -> AsyncIterator[CheckResult]:
        """Check that the group is visible; report its members."""
        if self.cluster_id is None:
            return
        group = self._settings.kafka_group_id
        try:
            state, members = await self._log.group_members(group)
        except FatalError as error:
            yield CheckResult(
                f"group {group}",
                str(error),
                f"kafka-acls.sh --add --allow-principal User:NAME --operation Read --group {group}",
            )
        else:
            yield CheckResult(f"group {group}", f"{state.lower() or 'unknown'}, {members} members")

    async def why_reset(self, partition: KafkaPartition, row: asyncpg.Record) -> str | None:
        """Return how a partition differs from the one of its position; None if it is the same."""
        cluster_ids = (row["cluster_id"], self.cluster_id or "")
        if partition not in self.bounds and cluster_ids[0] == cluster_ids[1]:
            return None
        last = LastRecord(row["last_offset"], row["last_recorded_ms"], row["last_crc"])
        return await why_reset(
            self._log,
            partition,
            cluster_ids,
            next_offset=row["next_offset"],
            last=None if row["last_offset"] is None else last,
        )

    async def _unseen(self, topic: str) -> CheckResult:
        """Check the rights of a missing topic: Kafka lists no topic that may not be described."""
        try:
            await self._log.topic_configs(topic)
        except FatalError:
            return CheckResult(
                f"topic {topic}",
                "no right to describe it, so it may exist or not",
                f"kafka-acls.sh --add --allow-principal User:NAME --operation Read --topic {topic}",
            )
        create = f"kafka-topics.sh --create --topic {topic} --partitions 6"
        return CheckResult(f"topic {topic}", "there is none", create)

    async def _readable(
        self, topic: str, bounds: dict[KafkaPartition, Bounds]
    ) -> AsyncIterator[CheckResult]:
        filled = [
            partition for partition, bound in sorted(bounds.items()) if bound.end > bound.start
        ]
        if not filled:
            yield CheckResult(
                f"topic {topic}", "empty: the first record will show whether it may be read"
            )
            return
        partition = filled[0]
        try:
            await self._log.records(
                partition, bounds[partition].start, bounds[partition].end, max_records=1
            )
        except FatalError as error:
            yield CheckResult(
                f"topic {topic}",
                str(error),
                f"kafka-acls.sh --add --allow-principal User:NAME --operation Read --topic {topic}",
            )
        else:
            yield CheckResult(f"topic {topic}", "may be read")

    async def _retention(self, topic: str) -> AsyncIterator[CheckResult]:
        try:
            configs = await self._log.topic_configs(topic)
        except FatalError:
            yield CheckResult(
                f"topic {topic}", "its settings may not be described; that does no harm"
            )
            return
        if "compact" in configs.get("cleanup.policy", ""):
            yield CheckResult(
                f"topic {topic}",
                "compacted: Kafka deletes an event once a newer one has its key",
                f"kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=delete",
            )
        kept_ms = int(configs.get("retention.ms", "-1"))
        kept = "for ever" if kept_ms < 0 else f"{kept_ms / 3_600_000:g} hours"
        yield CheckResult(f"topic {topic}", f"records are kept {kept}")


class _Database:
    """Checks PostgreSQL, as far as the service needs it."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        assert settings.database_url
        self._url = settings.database_url
        self._clock = clock
        self.answers = False
        self.migrated = False
        self.readable = False
        self.trouble = (
            f"database {masked_url(self._url)}",
            "see DATABASE_URL: host, port, name, user, password; and pg_hba.conf of the server",
        )

    async def connects(self) -> AsyncIterator[CheckResult]:
        """Connect; check that the server is new enough, and not a standby."""
        async with read_only_connection(self._url) as connection:
            version = int(await connection.fetchval("show server_version_num"))
            user = await connection.fetchval("select current_user")
            standby = await connection.fetchval("select pg_is_in_recovery()")
        self.answers = True
        about = self.trouble[0]
        if version < OLDEST_POSTGRES:
            yield CheckResult(about, f"version {version}", "PostgreSQL 15 or newer is needed")
        elif standby:
            yield CheckResult(
                about, "a standby: it is read-only", "name the primary in DATABASE_URL"
            )
        else:
            yield CheckResult(about, f"PostgreSQL {version // 10_000}, as {user}")

    async def migrations(self) -> AsyncIterator[CheckResult]:
        """Check that migrations are applied, and none was edited."""
        if not self.answers:
            return
        names: dict[str, list[str]] = {"applied": [], "pending": [], "edited": [], "unknown": []}
        for one in await read_status(self._url):
            names[one.state].append(one.name)
        self.migrated = not names["pending"]
        if names["pending"]:
            yield CheckResult(
                "migrations", f"pending: {', '.join(names['pending'])}", "normalizer migrate"
            )
        if names["edited"]:
            yield CheckResult(
                "migrations",
                f"edited after they were applied: {', '.join(names['edited'])}",
                REMEDY,
            )
        newer = f", {len(names['unknown'])} of a newer version" if names["unknown"] else ""
        if self.migrated and not names["edited"]:
            yield CheckResult("migrations", f"{len(names['applied'])} applied{newer}")

    async def rights(self) -> AsyncIterator[CheckResult]:
        """Check the rights for everything that a batch does."""
        if not self.migrated:
            return
        async with read_only_connection(self._url) as connection:
            user = await connection.fetchval("select quote_ident(current_user)")
            missing = ["usage on schema normalizer"]
            if await connection.fetchval("select has_schema_privilege('normalizer', 'usage')"):
                rows = await connection.fetch(_RIGHTS)
                missing = [f"{row['type']} on {row['what']}" for row in rows]
                self.readable = "select on normalizer.source_positions" not in missing
        if missing:
            named = ", ".join(missing)
            yield CheckResult("rights", f"missing: {named}", f"grant normalizer_writer to {user};")
        else:
            yield CheckResult("rights", "may write events, positions, quarantine and projections")

    async def partitions(self) -> AsyncIterator[CheckResult]:
        """Check that the lock table is large enough, and that partitions exist far enough ahead."""
        if not self.readable:
            return
        async with read_only_connection(self._url) as connection:
            locks, room, *ends = await connection.fetchrow(_GRID)
        yield CheckResult(
            "locks",
            f"a statement over all of events takes {locks:,} locks, "
            f"the server has room for about {room:,}",
            ""
            if room >= AT_ONCE * locks
            else "raise max_locks_per_transaction in postgresql.conf, and restart the server",
        )
        end = min(ends)
        yield CheckResult(
            "partitions",
            f"they exist up to {end:%Y-%m}",
            ""
            if datetime.fromtimestamp(self._clock(), UTC) < end - GRID_WARNING
            else "a newer version of normalizer adds more: stop the writers, `normalizer migrate`",
        )

    async def clock(self) -> AsyncIterator[CheckResult]:
        """Check that the server's clock agrees with this machine's."""
        if not self.answers:
            return
        async with read_only_connection(self._url) as connection:
            before_s = time.time()
            theirs_s = float(
                await connection.fetchval("select extract(epoch from clock_timestamp())")
            )
            skew_s = theirs_s - (before_s + time.time()) / 2
        message = f"the database's is {abs(skew_s):.1f} s {'ahead' if skew_s > 0 else 'behind'}"
        remedy = "run an NTP client on both" if abs(skew_s) > SKEW_S else ""
        yield CheckResult("clock", message, remedy)

    async def positions(self, topics: Sequence[str]) -> list[asyncpg.Record]:
        """The newest position of each partition."""
        async with read_only_connection(self._url) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(_POSITIONS, list(topics))
        return rows


async def _positions(kafka: _Kafka, database: _Database) -> AsyncIterator[CheckResult]:
    """Check that each topic is still the one that its position is of."""
    if not kafka.bounds or not database.readable:
        return
    topics = {partition.topic for partition in kafka.bounds}
    rows = await database.positions(sorted(topics))
    wrong = 0
    for row in rows:
        partition = KafkaPartition(row["topic"], row["partition"])
        about, bounds = f"position of {partition}", kafka.bounds.get(partition)
        if why := await kafka.why_reset(partition, row):
            wrong += 1
            yield CheckResult(about, f"{why}: it was recreated", "normalizer run --accept-reset")
        elif bounds and row["next_offset"] < bounds.start:
            message = (
                f"is {row['next_offset']}, the log begins at {bounds.start}: a gap will be noted"
            )
            yield CheckResult(about, message)
    if not wrong:
        yield CheckResult(
            "positions", f"{len(rows)} partitions were read before, all fit their logs"
        )
