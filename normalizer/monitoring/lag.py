"""Polls Kafka and PostgreSQL for lag, retention, and reachability.

It runs in its own event loop, so the lag is reported even while the service hangs. It covers every
partition of the topics, including those whose process is dead. If a value can't be read, the last
known value stays. The end of a log is the exception. It's dropped, because an old end doesn't tell
how much is unread now.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import asyncpg

from normalizer.config.settings import Settings
from normalizer.errors import FatalError, NormalizerError
from normalizer.kafka import (
    GrouplessClient,
    KafkaPartition,
    OffsetBounds,
    acl_grant_command,
    wall_clock_ms,
)
from normalizer.monitoring.partition_lag import PartitionLag
from normalizer.monitoring.source_heartbeat import ObservedLogEnd
from normalizer.observability.metric_catalog import JOB_KINDS, UNFINISHED_JOB_STATES, VERIFY_SCOPES
from normalizer.runtime.logging_setup import describe_error_without_secrets, get_logger
from normalizer.store.migration_files import (
    APPLIED_MIGRATIONS_SQL,
    index_applied_by_version,
    migration_statuses,
    read_migrations,
)
from normalizer.store.reconnecting_connection import ReconnectingConnection
from normalizer.store.source_positions import NEWEST_POSITIONS_SQL
from normalizer.store.sqlstate import STATEMENT_ERRORS

_POLL_TIMEOUT_S: Final = 3.0
_LEADER_TIMEOUT_S: Final = 2.0
_UNREAD_TIMEOUT_S: Final = 2.0
RETENTION_READ_INTERVAL_S: Final = 300.0
LOG_END_MAX_AGE_S: Final = 15.0
"""Five polls. After this long without a report, the end of a log is unknown, because it may have
grown."""

_log: Final = get_logger()

_SESSION: Final = {
    "statement_timeout": "3s",
    # Give up on a locked table long before the time limit of a poll, so that there's still time to
    # read the values of the other tables.
    "lock_timeout": "500ms",
    "idle_in_transaction_session_timeout": "10s",
    "search_path": "normalizer, public",
}


SERVER_STATUS_SQL: Final = """
    select   current_setting('transaction_read_only') = 'off' as writable,
             -- Without this right, transactions of other roles are hidden, so the age is unknown.
             case when pg_has_role('pg_read_all_stats', 'usage')
                  then coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0) end
                 ::double precision as snapshot_s
    from     pg_stat_activity
    where    backend_xmin is not null
    and      backend_type = 'client backend'
    and      pid <> pg_backend_pid()
    -- A running vacuum has a snapshot too, but that doesn't stop another vacuum.
    and      pid not in (select pid from pg_stat_progress_vacuum)
"""

_READ_AGREEMENT: Final = """
    select   coalesce(sum(divergent), 0)::bigint as divergent,
             coalesce(extract(epoch from now() - min(divergent_since)), 0)::double precision
                 as divergent_s,
             array[
                 case when bool_and(all_verified_at is not null)
                      then extract(epoch from now() - min(all_verified_at)) end,
                 case when bool_and(range_verified_at is not null)
                      then extract(epoch from now() - min(range_verified_at)) end,
                 case when bool_and(sample_verified_at is not null)
                      then extract(epoch from now() - min(sample_verified_at)) end
             ]::double precision[] as unverified_s
    from     projector.agreement
"""

_READ_JOBS: Final = """
    select   kind, state, count(*) as jobs, min(progress_ratio) as progress_ratio
    from     projector.jobs
    where    state in ('running', 'interrupted')
    group by kind, state
"""


class LagMonitor:
    """Polls when it's called.

    It belongs to one event loop, but any thread may read its attributes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.has_database = settings.database_url is not None
        self._log = GrouplessClient(settings)
        self.connection = ReconnectingConnection(
            settings.database_url or "",
            application_name="normalizer monitor",
            session=_SESSION,
            command_timeout_s=_POLL_TIMEOUT_S + 1,
        )
        self._migrations = read_migrations()
        self._positions: dict[KafkaPartition, int] | None = None
        self._existing: frozenset[KafkaPartition] = frozenset()
        self._bounds: dict[KafkaPartition, OffsetBounds] = {}
        self._bounds_at_s: dict[KafkaPartition, float] = {}
        self._counts: Counter[str] = Counter()
        self._oldest: dict[KafkaPartition, tuple[int, int]] = {}
        self._polled_at_s: dict[KafkaPartition, float] = {}
        self._retention_ms: dict[str, float] = {}
        self._retention_at_s: dict[str, float] = {}
        self.broker_up = False
        self.database_up = False
        self.writable = False
        self.missing_migrations: tuple[str, ...] = ()
        self.divergent: tuple[int, float] | None = None
        """The number of divergent executions and hours, and for how many seconds. None while
        unknown."""
        self.unverified_s: dict[str, float] = {}
        self.snapshot_s: float | None = None
        """The age of the oldest snapshot. None while unknown, or without the right to see it."""
        self.jobs: dict[tuple[str, str], int] = {}
        self.progress: dict[str, float] = dict.fromkeys(JOB_KINDS, 1.0)

    @property
    def lag_by_partition(self) -> Mapping[KafkaPartition, PartitionLag]:
        """Return the lag of each partition whose log's end is known.

        Empty if the positions were never read. While the database is unreachable, the last known
        positions are used, because no process can move them in the meantime.
        """
        positions = self._positions
        if positions is None:
            return {}
        unmeasured = {*self.unmeasured_partitions}
        return {
            partition: PartitionLag(
                next_offset=positions.get(partition, 0),
                bounds=bounds,
                oldest_unread_ms=self._oldest.get(partition, (None, None))[1],
                retention_ms=self._retention_ms.get(partition.topic, math.inf),
            )
            for partition, bounds in sorted(self._bounds.items())
            if partition not in unmeasured
        }

    @property
    def unmeasured_partitions(self) -> list[KafkaPartition]:
        """Return the partitions whose end isn't known for `LOG_END_MAX_AGE_S`, sorted."""
        oldest_s = time.monotonic() - LOG_END_MAX_AGE_S
        known_at_s = self._bounds_at_s
        return sorted(one for one in self._existing if known_at_s.get(one, -math.inf) < oldest_s)

    @property
    def lag_records(self) -> int | None:
        """Return the unread records of all partitions, or None if any of them is unknown."""
        lags = self.lag_by_partition
        if not lags or self.unmeasured_partitions:
            return None
        return sum(one.lag_records for one in lags.values())

    @property
    def missing_topics(self) -> tuple[str, ...]:
        """Return the topics in KAFKA_TOPICS that don't exist, according to the brokers."""
        topics = self._settings.kafka_topics if self.broker_up else ()
        return tuple(one for one in topics if not self._counts[one])

    @property
    def observed_log_ends(self) -> Mapping[KafkaPartition, ObservedLogEnd]:
        """Return where each log ends, as the broker last reported it."""
        now_s = time.monotonic()
        return {
            one: ObservedLogEnd(
                log_end=bounds.end,
                partition_count=self._counts[one.topic],
                age_s=now_s - self._bounds_at_s[one],
            )
            for one, bounds in self._bounds.items()
        }

    async def poll(self) -> None:
        """Poll Kafka and PostgreSQL at the same time. The `*_up` attributes show which failed."""
        async with asyncio.TaskGroup() as tasks:
            if self.has_database:
                tasks.create_task(self._poll_database(), name="poll the database")
            tasks.create_task(self.poll_broker(), name="poll the broker")

    async def poll_broker(self) -> None:
        """Read the bounds. A partition whose leader is unreachable keeps its last known ones."""
        try:
            async with asyncio.timeout(_POLL_TIMEOUT_S):
                found = [await self._log.partitions(one) for one in self._settings.kafka_topics]
                existing = frozenset[KafkaPartition]().union(*found)
                polled_at_s = time.monotonic()
                reachable = await self._log.reachable_offset_bounds(
                    existing, within_s=_LEADER_TIMEOUT_S
                )
                kept = {one: at for one, at in self._bounds.items() if one in existing}
                self._bounds = kept | reachable
                self._bounds_at_s |= dict.fromkeys(reachable, polled_at_s)
                self._existing = existing
                self._counts = Counter(one.topic for one in existing)
                self.broker_up = bool(reachable) or not existing
                if not self.has_database:
                    await self._poll_group()
                await self._poll_retention()
        except (NormalizerError, TimeoutError):
            self.broker_up = False
            await self._log.close()

    async def poll_oldest_unread(self) -> None:
        """Read the time of the oldest unread record of each partition with lag.

        The times are needed for the lag in seconds and for the time to expiry. Each partition takes
        one fetch, so there may not be enough time for all of them. The partition whose last fetch
        was longest ago comes first, so that none is left out forever.
        """
        if not self.broker_up:
            return
        unknown: dict[KafkaPartition, int] = {}
        polled_at_s = max(self._bounds_at_s.values(), default=0.0)
        for partition, lag in self.lag_by_partition.items():
            if self._bounds_at_s[partition] < polled_at_s:
                continue  # its leader is unreachable, so reading it would delay the rest
            known_at, _ = self._oldest.get(partition, (None, None))
            if not lag.lag_records:
                self._oldest.pop(partition, None)
            elif known_at != lag.first_unread_offset:
                unknown[partition] = lag.first_unread_offset
        try:
            async with asyncio.timeout(_UNREAD_TIMEOUT_S):
                for partition in sorted(unknown, key=lambda one: self._polled_at_s.get(one, 0.0)):
                    self._polled_at_s[partition] = time.monotonic()
                    at, end = unknown[partition], self._bounds[partition].end
                    record = await self._log.first_record_in_range(partition, at, end)
                    recorded_ms = record.recorded_ms if record else None
                    if recorded_ms is None:
                        # The batch can't be decoded, so nobody knows when the record was written.
                        # Count its age from now on.
                        recorded_ms = wall_clock_ms()
                    self._oldest[partition] = (at, recorded_ms)
        except (NormalizerError, TimeoutError) as error:
            _log.debug("lag.oldest_unread_unknown", why=describe_error_without_secrets(error))

    async def close(self) -> None:
        """Close the connections."""
        self.connection.terminate()
        await self._log.close()

    async def _poll_database(self) -> None:
        """Poll whether the server responds, and separately what its tables and views say."""
        reads: tuple[Callable[[asyncpg.Connection], Awaitable[None]], ...] = (
            self._poll_migrations,
            self._poll_positions,
            self._poll_agreement,
            self._poll_jobs,
        )
        answers = False
        with contextlib.suppress(*STATEMENT_ERRORS):
            async with asyncio.timeout(_POLL_TIMEOUT_S), self.connection.acquire() as connection:
                row = await connection.fetchrow(SERVER_STATUS_SQL)
                answers, self.writable, self.snapshot_s = True, row["writable"], row["snapshot_s"]
                for read in reads:
                    # A value stays as it is if its table is locked, slow, missing, or unreadable.
                    with contextlib.suppress(asyncpg.PostgresError):
                        await read(connection)
        self.database_up = answers
        self.writable = answers and self.writable

    async def _poll_migrations(self, connection: asyncpg.Connection) -> None:
        try:
            rows = await connection.fetch(APPLIED_MIGRATIONS_SQL)
        except asyncpg.SyntaxOrAccessError:
            rows = []
        statuses = migration_statuses(self._migrations, index_applied_by_version(rows))
        self.missing_migrations = tuple(
            status.version for status in statuses if status.state == "pending"
        )

    async def _poll_positions(self, connection: asyncpg.Connection) -> None:
        rows = await connection.fetch(NEWEST_POSITIONS_SQL, list(self._settings.kafka_topics))
        self._positions = {
            KafkaPartition(row["topic"], row["partition"]): row["next_offset"] for row in rows
        }

    async def _poll_agreement(self, connection: asyncpg.Connection) -> None:
        row = await connection.fetchrow(_READ_AGREEMENT)
        self.divergent = row["divergent"], row["divergent_s"]
        ages = (math.inf if age is None else age for age in row["unverified_s"])
        self.unverified_s = dict(zip(VERIFY_SCOPES, ages, strict=True))

    async def _poll_jobs(self, connection: asyncpg.Connection) -> None:
        counts = {(kind, state): 0 for kind in JOB_KINDS for state in UNFINISHED_JOB_STATES}
        progress = dict.fromkeys(JOB_KINDS, 1.0)
        for row in await connection.fetch(_READ_JOBS):
            counts[row["kind"], row["state"]] = row["jobs"]
            if row["state"] == "running":
                progress[row["kind"]] = row["progress_ratio"] or 0.0
        self.jobs, self.progress = counts, progress

    async def _poll_group(self) -> None:
        """Read the positions of a service that keeps them in its group."""
        committed = await self._log.committed_offsets(self._settings.kafka_group_id, self._bounds)
        self._positions = {one: found.next_offset for one, found in committed.items()}

    async def _poll_retention(self) -> None:
        """Read the retention of topics. It's unknown if we may not describe a topic."""
        now_s = time.monotonic()
        for topic in {partition.topic for partition in self._bounds}:
            if now_s - self._retention_at_s.get(topic, -math.inf) < RETENTION_READ_INTERVAL_S:
                continue
            try:
                configs = await self._log.read_topic_config(topic)
            except FatalError:
                if topic not in self._retention_at_s:
                    _log.warning(
                        "lag.retention_unknown",
                        topic=topic,
                        why="its settings are hidden, so the alert NormalizerRecordsExpire can't "
                        "fire: " + acl_grant_command("topic", topic, "DescribeConfigs"),
                    )
            else:
                kept_ms = int(configs.get("retention.ms", "-1"))
                deletes = "delete" in configs.get("cleanup.policy", "delete")
                self._retention_ms[topic] = kept_ms if deletes and kept_ms >= 0 else math.inf
            self._retention_at_s[topic] = now_s
