"""What no event can tell any more, taken over from the live tables into those of a rebuild.

Executions are taken over alone at the gate, where live tables and new ones are as of the same
moment; the archived shards of counters stand still meanwhile.
"""

import asyncio
from typing import Final

import asyncpg

from projector.database import patiently
from projector.shadow import GATE, in_shadow
from projector.units import Unit

EXECUTIONS_A_STEP: Final = 100
ROWS_A_STEP: Final = 50_000
PAUSE_S: Final = 1.0


async def adopt(connection: asyncpg.Connection, unit: Unit) -> int:
    """How many rows were taken over."""
    adopted = await _adopt_counts(connection, unit)
    if "execution_facts" in unit.tables:
        adopted += await _adopt_executions(connection)
    return adopted


async def _adopt_counts(connection: asyncpg.Connection, unit: Unit) -> int:
    """The archived shard of every counter; some hours a statement, and no writer waits.

    Retention alone writes that shard, and waits for the rebuild; nobody else writes the new one.
    """
    adopted = 0
    for table in unit.tables:
        if not table.endswith("_facts"):
            adopted += await _adopt_shard(connection, table, in_shadow(table, unit))
    return adopted


async def _adopt_shard(connection: asyncpg.Connection, table: str, into: str) -> int:
    """The archived shard of one counter. A step that takes too long is tried again, smaller."""
    time = "minute" if table.endswith("_minutes") else "hour"
    following = _FOLLOWING.format(table=table, time=time)
    copy = _COPY_ARCHIVED.format(table=table, time=time, into=into)
    adopted, rows = 0, ROWS_A_STEP
    low = await connection.fetchval(_FIRST.format(table=table, time=time))
    while low is not None:
        try:
            high = await connection.fetchval(following, low, rows)
            done = await connection.execute(copy, low, high)
        except asyncpg.QueryCanceledError:
            if rows == 1:
                raise
            rows = max(rows // 4, 1)
            await asyncio.sleep(PAUSE_S)
            continue
        adopted += int(done.rpartition(" ")[2])
        low = high
    return adopted


async def _adopt_executions(connection: asyncpg.Connection) -> int:
    """Executions of which events are gone: their rows as they are, counted as they are."""
    adopted, last, size = 0, -(1 << 63), EXECUTIONS_A_STEP
    while True:
        rows = await connection.fetch(_ARCHIVED_EXECUTIONS, last, size)
        if not rows:
            return adopted
        execution_ids = [row["execution_id"] for row in rows]

        async def work(execution_ids: list[int] = execution_ids) -> None:
            await connection.execute(f"select pg_advisory_xact_lock({GATE})")
            await _count(connection, execution_ids, -1)
            for statement in _REPLACE:
                await connection.execute(statement, execution_ids)
            await _count(connection, execution_ids, 1)

        try:
            await patiently(connection, work)
        except asyncpg.QueryCanceledError:
            if size == 1:
                raise
            size = max(size // 4, 1)
            await asyncio.sleep(PAUSE_S)
            continue
        last = execution_ids[-1]
        adopted += len(rows)


async def _count(connection: asyncpg.Connection, execution_ids: list[int], sign: int) -> None:
    """Count the new tables' rows of the executions, or count them no longer."""
    for statement in (_COUNT_CALLS, _COUNT_EXECUTIONS):
        await connection.execute(statement, execution_ids, sign)


_FIRST: Final = "select min({time}) from projector.{table}"

_FOLLOWING: Final = """
    select   {time}
    from     projector.{table}
    where    {time} > $1::timestamptz
    order by {time}
    limit    1
    offset   $2::integer
"""

_COPY_ARCHIVED: Final = """
    insert into {into}
    select *
    from   projector.{table}
    where  shard < 0
    and    {time} >= $1::timestamptz
    and    ({time} < $2::timestamptz or $2::timestamptz is null)
    on conflict do nothing
"""

_ARCHIVED_EXECUTIONS: Final = """
    select   execution_id
    from     projector.execution_facts
    where    execution_id > $1::bigint and archived > 0
    order by execution_id
    limit    $2::integer
"""

_COUNT_CALLS: Final = """
    select projector_next.count_calls(array(
               select counted
               from   projector_next.call_counts($2::integer, array(
                          select (execution_id, call_key, attempts)::projector.call_id
                          from   projector_next.call_facts
                          where  execution_id = any($1::bigint[])
                      )) as counted
           ))
"""

_COUNT_EXECUTIONS: Final = """
    insert into projector_next.execution_hours as counted (
        hour, playbook, outcome, shard, executions
    )
    select   marked.hour, projector.playbook_of(known.counted_told), marked.outcome,
             projector.take_shard(), $2::integer * count(*)
    from     projector_next.execution_facts as known
    cross join lateral (
        values (known.counted_begun, 'BEGUN'), (known.counted_ended, known.counted_outcome)
    ) as marked (hour, outcome)
    where    known.execution_id = any($1::bigint[])
    and      marked.hour is not null
    group by 1, 2, 3
    on conflict (hour, playbook, outcome, shard)
    do update set executions = counted.executions + excluded.executions
"""

_REPLACE: Final = (
    "delete from projector_next.call_facts where execution_id = any($1::bigint[])",
    "delete from projector_next.execution_facts where execution_id = any($1::bigint[])",
    """
    insert into projector_next.execution_facts
    select * from projector.execution_facts where execution_id = any($1::bigint[])
    """,
    """
    insert into projector_next.call_facts
    select * from projector.call_facts where execution_id = any($1::bigint[])
    """,
)
