"""Checks that an external database and topic may get made-up traffic: never real ones."""

from typing import Final

import asyncpg

from normalizer.database import connected
from normalizer.errors import ConfigurationError
from normalizer.kafka import TopicReader

_HAS_TABLES: Final = """
    select exists (
        select from pg_class     as relation
        join        pg_namespace as schema on schema.oid = relation.relnamespace
        where       relation.relkind in ('r', 'p', 'm')
        and         schema.nspname <> 'information_schema'
        and         schema.nspname !~ '^pg_'
    )
"""
_IS_MIGRATED: Final = "select to_regclass('normalizer.source_positions') is not null"
_HAS_OTHERS: Final = """
    select exists (
        select from normalizer.source_positions
        where       (topic, cluster_id) <> ($1::text, $2::text)
    )
"""


async def claim_for_demo(database_url: str, log: TopicReader, topic: str) -> None:
    """Mark an empty database as one for made-up traffic, from this topic of this cluster.

    Raises ConfigurationError unless database and topic are empty, or were marked by an earlier run.
    """
    cluster_id = await log.cluster_id()
    async with connected(database_url, application_name="normalizer up") as connection:
        if await _is_marked(connection, topic, cluster_id):
            if await connection.fetchval(_IS_MIGRATED) and await connection.fetchval(
                _HAS_OTHERS, topic, cluster_id
            ):
                raise ConfigurationError(
                    "the database of DATABASE_URL holds rows of other topics: `normalizer up` "
                    "uses a database of its own only"
                )
            return
        if await connection.fetchval(_HAS_TABLES):
            raise ConfigurationError(
                "the database of DATABASE_URL holds tables that `normalizer up` did not create: "
                "name an empty one"
            )
        bounds = await log.bounds(await log.partitions(topic))
        if any(bound.end > 0 for bound in bounds.values()):
            raise ConfigurationError(
                f"the topic {topic} holds records that `normalizer up` did not send: "
                "name another in KAFKA_TOPICS"
            )
        await _mark(connection, topic, cluster_id)


async def _is_marked(connection: asyncpg.Connection, topic: str, cluster_id: str) -> bool:
    if await connection.fetchval("select to_regclass('up.played')") is None:
        return False
    return bool(
        await connection.fetchval(
            "select exists (select from up.played where (topic, cluster_id) = ($1, $2))",
            topic,
            cluster_id,
        )
    )


async def _mark(connection: asyncpg.Connection, topic: str, cluster_id: str) -> None:
    async with connection.transaction():
        await connection.execute("create schema up")
        await connection.execute(
            "create table up.played (topic text not null, cluster_id text not null)"
        )
        await connection.execute(
            "insert into up.played (topic, cluster_id) values ($1, $2)", topic, cluster_id
        )
