"""What no event can tell any more, taken over from the live tables into those of a rebuild.

Done alone at the gate, where live tables and new ones are as of the same moment.
"""

from typing import Final

import asyncpg

from projector.database import patiently
from projector.shadow import GATE, in_shadow
from projector.units import Unit

EXECUTIONS_A_STEP: Final = 100


async def adopt(connection: asyncpg.Connection, unit: Unit) -> int:
    """How many rows were taken over."""
    adopted = await _adopt_counts(connection, unit)
    if "execution_facts" in unit.tables:
        adopted += await _adopt_executions(connection)
    return adopted


async def _adopt_counts(connection: asyncpg.Connection, unit: Unit) -> int:
    """The archived shard of every counter."""
    adopted = 0

    async def work() -> None:
        nonlocal adopted
        await connection.execute(f"select pg_advisory_xact_lock({GATE})")
        for table in unit.tables:
            if not table.endswith("_facts"):
                copy = _COPY_ARCHIVED.format(table=table, into=in_shadow(table, unit))
                done = await connection.execute(copy)
                adopted += int(done.rpartition(" ")[2])

    await patiently(connection, work)
    return adopted


async def _adopt_executions(connection: asyncpg.Connection) -> int:
    """Executions of which events are gone: their rows as they are, counted as they are."""
    adopted, last = 0, -(1 << 63)
    while True:
        rows = await connection.fetch(_ARCHIVED_EXECUTIONS, last, EXECUTIONS_A_STEP)
        if not rows:
            return adopted
        execution_ids = [row["execution_id"] for row in rows]
        last = execution_ids[-1]

        async def work(execution_ids: list[int] = execution_ids) -> None:
            await connection.execute(f"select pg_advisory_xact_lock({GATE})")
            await _count(connection, execution_ids, -1)
            for statement in _REPLACE:
                await connection.execute(statement, execution_ids)
            await _count(connection, execution_ids, 1)

        await patiently(connection, work)
        adopted += len(rows)


async def _count(connection: asyncpg.Connection, execution_ids: list[int], sign: int) -> None:
    """Count the new tables' rows of the executions, or count them no longer."""
    for statement in (_COUNT_CALLS, _COUNT_EXECUTIONS):
        await connection.execute(statement, execution_ids, sign)


_COPY_ARCHIVED: Final = """
    insert into {into} select * from projector.{table} where shard < 0 on conflict do nothing
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
