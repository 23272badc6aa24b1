"""Inserts drift findings into PostgreSQL, unless another process has inserted them already."""

import asyncio
from collections.abc import Sequence
from typing import Final

from normalizer.core.drift import DriftFinding
from normalizer.store.reconnecting_connection import ReconnectingConnection

_TIMEOUT_S: Final = 3.0

# Stores no value of an execution that was erased.
_INSERT_FINDING: Final = """
    insert into normalizer.drift_findings (
        shape, field, type, kind, source_topic, source_incarnation, source_partition,
        source_offset, example
    )
    select $1::text, $2::text, $3::text, $4::text, $5::text, $6::integer, $7::integer, $8::bigint,
           $9::text
    where  not exists (
               select from normalizer.forgotten_executions
               where  execution_id = any($10::bigint[])
           )
    on conflict do nothing
    returning true
"""


async def insert_drift_findings(
    connection: ReconnectingConnection, findings: Sequence[DriftFinding]
) -> list[bool]:
    """Insert the findings. Returns for each whether it's new. Raises asyncpg's errors."""
    async with asyncio.timeout(_TIMEOUT_S), connection.acquire() as database:
        return [
            bool(
                await database.fetchval(
                    _INSERT_FINDING,
                    *(one.shape, one.field, one.type, one.kind, one.topic, one.incarnation),
                    *(one.partition, one.offset, one.example, one.execution_ids),
                )
            )
            for one in findings
        ]
