"""A database with history for all tests of the API that only read, and a client of it."""

from collections.abc import AsyncIterator
from typing import Final

import asyncpg
import pytest

from tests.support.api_client import insert_events
from tests.support.stack import Database, Stack
from tests.support.table_rows import connected

_FAMILY: Final = """
    insert into normalizer.events (event_id, execution_id, event_type, step, status, created_at,
                                   parent_execution_id, source_topic, source_partition,
                                   source_offset, context, trace_id)
    select 900 + number, 90 + number, 'playbook.started', 'flow', 'STARTED',
           now() - make_interval(mins => 100 - number), parent, 'noetl.events', 2, 70 + number,
           '{}',
           case when number < 2 then '4bf92f3577b34da6a3ce929d0e0e4736' end
    from   (values (0, null), (1, 90), (2, 90), (3, 91), (4, 93)) as child (number, parent);

    insert into normalizer.redrive_attempts
           (quarantine_id, tried_at, tried_by, normalizer_version, outcome, detail, job_id, run)
    select quarantine_id, now() - interval '2 minutes', 'operator', 1, 'rejected', 'no JSON', 'j', 1
    from   normalizer.quarantine;
"""
"""An execution 90 with children, grandchildren, and below, and a try to redrive a rejected record.

"""


@pytest.fixture(scope="session")
async def filled(stack: Stack) -> AsyncIterator[Database]:
    """Three hours of history, read only."""
    async with (await stack.cluster("current")).database() as made:
        await insert_events(made, 3_000)
        async with connected(made) as connection:
            await connection.execute(_FAMILY)
        yield made


@pytest.fixture
async def connection(filled: Database) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to it."""
    async with connected(filled) as made:
        yield made
