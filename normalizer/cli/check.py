"""Checks the environment, and what this process may do in Kafka and PostgreSQL, line by line."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final

from normalizer.cli.check_database import DatabaseCheck
from normalizer.cli.check_kafka import KafkaCheck
from normalizer.cli.check_result import CheckResult
from normalizer.config.environment import unknown_variables, unused_security_variables
from normalizer.config.settings import Settings
from normalizer.core.previous_owner import SLICE_CODE_BLAMED
from normalizer.errors import (
    AnotherClusterError,
    BrokerUnavailableError,
    NormalizerError,
    OtherGroupError,
)
from normalizer.kafka import GrouplessClient, KafkaPartition
from normalizer.observability.tracing import find_grpc_port_error, find_tracing_error
from normalizer.store.source_positions import NEWEST_POSITIONS_SQL

_STEP_TIMEOUT_S: Final = 20.0

_LOST: Final = (
    "raise retention.ms of the topic, find out why reading stopped, and load the lost records "
    "with `normalizer backfill` if you keep a copy of the topic"
)

_BLAMED: Final = (
    "look at that record with kafka-console-consumer, and at the memory of the process. If the "
    "record is to blame, use `normalizer position skip`"
)

_GONE: Final = "if the topic was recreated with fewer partitions, use `normalizer position retire`"


async def run_checks(settings: Settings, log: GrouplessClient) -> AsyncIterator[CheckResult]:
    """Check Kafka, then the database, then whether the two belong together. Changes nothing.

    Yields one line per check. If a check fails, the checks that depend on it are skipped. For
    example, an unreachable database is reported once, and not again by each check of its tables.
    """
    kafka = KafkaCheck(settings, log)
    database = DatabaseCheck(settings)
    for end, step in _steps(settings, kafka, database):
        try:
            async with asyncio.timeout(_STEP_TIMEOUT_S):
                findings = [finding async for finding in step]
        except TimeoutError:
            about, remedy = end.trouble
            findings = [CheckResult(about, f"no answer in {_STEP_TIMEOUT_S:.0f} s", remedy)]
        except NormalizerError as error:
            # A step that compares Kafka with the database can fail because of either of them, so
            # report the one that raised the error.
            at = kafka if isinstance(error, BrokerUnavailableError) else end
            about, remedy = at.trouble
            findings = [CheckResult(about, error.what, error.remedy or remedy)]
        for finding in findings:
            yield finding


def _steps(
    settings: Settings, kafka: KafkaCheck, database: DatabaseCheck
) -> Iterator[tuple[KafkaCheck | DatabaseCheck, AsyncIterator[CheckResult]]]:
    """Yield each check when those before it are done, unless one that it depends on has failed."""
    yield kafka, kafka.check_connection()
    if kafka.cluster_id is not None:
        for topic in settings.kafka_topics:
            yield kafka, kafka.check_topic(topic)
        yield kafka, kafka.check_group()
    yield database, database.check_connection()
    if database.answers:
        yield database, database.check_crash_safety()
        yield database, database.check_public_rights()
        yield database, database.check_migrations()
    if database.migrated:
        yield database, database.check_triggers()
        yield database, database.check_writer_rights()
    if database.readable:
        yield database, database.check_monitoring_rights()
    if database.answers:
        yield database, database.check_clock()
    if kafka.bounds and database.readable:
        yield database, _clusters(kafka, database)
        yield database, _groups(kafka, database, settings.kafka_group_id)
        yield database, _positions(kafka, database)


_CLUSTERS_OF_TOPICS: Final = """
    select   topic, cluster_id
    from     normalizer.source_topics
    where    topic = any($1::text[])
    order by topic
"""


async def _clusters(kafka: KafkaCheck, database: DatabaseCheck) -> AsyncIterator[CheckResult]:
    """Check that each topic was read from the cluster that we're connected to."""
    topics = {partition.topic for partition in kafka.bounds}
    for topic, cluster_id in await database.fetch_for_topics(_CLUSTERS_OF_TOPICS, sorted(topics)):
        if cluster_id != kafka.cluster_id:
            message = (
                f"it was read from cluster {cluster_id}, but cluster {kafka.cluster_id} answers"
            )
            yield CheckResult(f"topic {topic}", message, AnotherClusterError.REMEDY)


async def _groups(
    kafka: KafkaCheck, database: DatabaseCheck, group_id: str
) -> AsyncIterator[CheckResult]:
    """Check that no other consumer group reads these topics into this database."""
    partitions = defaultdict[tuple[str, str], list[str]](list)
    for one in await database.find_other_group_errors(kafka.bounds.keys(), group_id):
        partitions[one.other, one.owner].append(f"{one.topic}[{one.partition}]")
    for (other, owner), names in partitions.items():
        message = (
            f"consumer group {other} (process {owner}) reads {', '.join(names)} into this database"
        )
        yield CheckResult(f"group {group_id}", message, OtherGroupError.REMEDY.format(other))


async def _positions(kafka: KafkaCheck, database: DatabaseCheck) -> AsyncIterator[CheckResult]:
    """Check that each topic is still the one that its position belongs to."""
    topics = {partition.topic for partition in kafka.bounds}
    fit, without_leader = True, 0
    rows = await database.fetch_for_topics(NEWEST_POSITIONS_SQL, sorted(topics))
    for row in rows:
        partition = KafkaPartition(row["topic"], row["partition"])
        about, bounds = f"position of {partition}", kafka.bounds.get(partition)
        if other_log := await kafka.find_log_mismatch(partition, row):
            fit = False
            yield CheckResult(about, other_log.why, other_log.remedy)
        elif row["slice_records"] == SLICE_CODE_BLAMED:
            fit = False
            message = (
                f"a process was killed while it processed offset {row['next_offset']} and no "
                "other record"
            )
            yield CheckResult(about, message, _BLAMED, warns=True)
        elif partition in kafka.bounds and bounds is None:
            without_leader += 1
        elif bounds is None and not row["owner"].startswith("operator:"):
            fit = False
            yield CheckResult(about, "the brokers have no such partition", _GONE, warns=True)
        elif bounds and row["next_offset"] < bounds.start:
            fit = False
            deleted = f"{row['next_offset']} to {bounds.start - 1}"
            message = (
                f"Kafka deleted offsets {deleted} before they were read. They become a gap with "
                "reason expired"
            )
            yield CheckResult(about, message, _LOST, warns=True)
    if fit:
        message = (
            f"{len(rows) - without_leader} partitions were read before, and all match their logs"
        )
        if without_leader:
            message += f"; {without_leader} without a leader"
        yield CheckResult("positions", message)


def check_environment(environ: Mapping[str, str], settings: Settings) -> Iterator[CheckResult]:
    """Check that each variable has a reader, and that spans can be sent if tracing is on."""
    for unknown in unknown_variables(environ):
        yield CheckResult(
            f"variable {unknown.name}",
            "unknown, so nothing reads it",
            f"correct or unset it: {unknown.advice}",
        )
    for unused in unused_security_variables(settings):
        yield CheckResult(
            f"variable {unused.name}",
            f"KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol}, which doesn't use it",
            f"{unused.advice}, or unset it",
            warns=True,
        )
    if mistake := find_tracing_error(environ) or find_grpc_port_error(environ):
        # This is only a warning, because the service works without tracing.
        yield CheckResult("tracing", mistake.what, mistake.remedy, warns=True)
