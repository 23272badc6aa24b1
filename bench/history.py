"""Makes a history in SQL: executions at an even rate, each with steps, calls, and retries.

Benchmarks use it if they need millions of events within minutes. The same numbers always give the
same rows.
"""

from datetime import datetime, timedelta
from typing import Final

import asyncpg

EVENTS_AN_EXECUTION: Final = 40
"""About: 2 of its own, 2 for each of 5 steps, 5 for each try of its command."""

EXECUTIONS_A_STATEMENT: Final = 250


async def make_history(
    connection: asyncpg.Connection,
    events: int,
    *,
    until: datetime,
    per_day: float = 10_000_000 / 30,
    first: int = 0,
) -> int:
    """Insert about this many events, the last of them before `until`. Returns the exact number."""
    executions = max(events // EVENTS_AN_EXECUTION, 1)
    gap = timedelta(days=1) / per_day * EVENTS_AN_EXECUTION
    begin = until - gap * executions
    made = 0
    for number in range(0, executions, EXECUTIONS_A_STATEMENT):
        last = min(number + EXECUTIONS_A_STATEMENT, executions) - 1
        done = await connection.execute(_LIVES, first + number, first + last, begin, gap, first)
        made += int(done.rpartition(" ")[2])
    return made


async def repeat_history(connection: asyncpg.Connection, times: int, *, later: timedelta) -> None:
    """Copy every row of a history several times, each copy `later` than the one before.

    Triggers are off, and the rows of the projections are copied too. The views then show the same
    as if the copies had been projected, in a fifth of the time.
    """
    shifts = {
        "timestamptz": "{column} + $1::integer * $2::interval",
        "execution_id": f"{{column}} + $1::integer * {_COPIED_EXECUTIONS}",
        "parent_execution_id": f"{{column}} + $1::integer * {_COPIED_EXECUTIONS}",
        # Its upper bits are milliseconds.
        "event_id": "{column} + "
        "($1::integer * extract(epoch from $2::interval)::bigint * 1000 << 22)",
        "command_id": f"replace({{column}}, execution_id::text, "
        f"(execution_id + $1::integer * {_COPIED_EXECUTIONS})::text)",
        "source_offset": f"{{column}} + $1::integer * {_COPIED_EXECUTIONS}",
    }
    tables: dict[str, list[str]] = {}
    for table, column, kind in await connection.fetch(_COPIED_COLUMNS):
        shift = shifts.get(column, shifts.get(kind, "{column}"))
        tables.setdefault(table, []).append(shift.format(column=column))
    await connection.execute("set maintenance_work_mem = '512MB'")
    for table, columns in tables.items():
        await connection.execute(f"create temporary table copied as table {table}")
        await connection.execute(f"alter table {table} disable trigger user")
        indexes = await connection.fetch(_INDEXES, table)
        for name, _ in indexes:
            await connection.execute(f"drop index {name}")
        for number in range(1, times):
            copies = f"select {', '.join(columns)} from copied"  # noqa: S608 - names of columns
            await connection.execute(f"insert into {table} {copies}", number, later)
        for _, definition in indexes:
            await connection.execute(definition)
        await connection.execute(f"alter table {table} enable trigger user")
        await connection.execute("drop table copied")


_COPIED_EXECUTIONS: Final = "1000000000000::bigint"

_COPIED_COLUMNS: Final = """
    select   class.oid::regclass::text, quote_ident(attname), typname
    from     pg_attribute as own
    join     pg_class as class on class.oid = attrelid
    join     pg_type as kind on kind.oid = atttypid
    where    relnamespace in ('normalizer'::regnamespace, 'projector'::regnamespace)
    and      relkind = 'r' and attnum > 0 and not attisdropped
    and      (
                 class.oid = 'normalizer.events'::regclass
                 or relname ~ '^(execution|call)_facts$|_(hours|minutes|times)$'
             )
    order by 1, attnum
"""

_INDEXES: Final = """
    select   own.indexrelid::regclass::text, pg_get_indexdef(own.indexrelid)
    from     pg_index as own
    where    indrelid = $1::text::regclass and not indisprimary
"""

# Every random choice is a hash of the numbers it is about.
_LIVES: Final = """
    with life as (
        select number,
               1000003 * (number + 1)::bigint as execution_id,
               $3::timestamptz + (number - $5::integer) * $4::interval as begun_at,
               'team' || number % 7 || '/flow_' || number % 30 as playbook
        from   generate_series($1::integer, $2::integer) as number
    ),
    try as (
        select life.*, step.number as step_number,
               (array['fetch', 'transform', 'load', 'notify', 'enrich', 'check', 'train', 'publish',
                      'archive', 'audit'])[1 + (life.number + 3 * step.number) % 10] as step,
               attempts.number as attempts, failures.failures,
               life.begun_at + step.number * interval '20 seconds'
                   + attempts.number * interval '6 seconds' as at,
               (abs(hashint4(life.number * 97 + step.number * 7 + attempts.number)) % 4000) / 1000.0
                   + 0.05 as seconds
        from   life
        cross join generate_series(0, 4) as step (number)
        cross join lateral (
            select case
                       when abs(hashint4(life.number * 31 + step.number)) % 100 < 2 then 2
                       when abs(hashint4(life.number * 31 + step.number)) % 100 < 10 then 1
                       else 0
                   end as failures
        ) as failures
        cross join lateral generate_series(0, failures.failures) as attempts (number)
    ),
    said as (
        select number, execution_id, playbook as step, 0 as attempts, begun_at as at, 0 as ordinal,
               'playbook.started' as event_type, 'STARTED' as status, null as command_id,
               null as worker_id, null::double precision as duration, null as error,
               jsonb_build_object('path', playbook, 'version', '3') as context
        from   life
        union all
        select number, execution_id, playbook, 0, begun_at + interval '110 seconds', 4000,
               'playbook.completed', 'COMPLETED', null, null, null, null, null
        from   life
        union all
        select number, execution_id, step, 0, at + edge.later, step_number * 100 + edge.ordinal,
               edge.event_type, edge.status, null, null, null, null, null
        from   try
        cross join (
            values ('step.enter', 'STARTED', 1, interval '0'),
                   ('step.exit', 'COMPLETED', 2, interval '19 seconds')
        ) as edge (event_type, status, ordinal, later)
        where  attempts = 0
        union all
        select try.number, try.execution_id, try.step, try.attempts,
               try.at + report.later + case when report.ends then try.seconds else 0 end
                            * interval '1 second',
               try.step_number * 100 + try.attempts * 10 + report.ordinal, report.event_type,
               case
                   when not report.ends then 'RUNNING'
                   when try.attempts = try.failures then 'COMPLETED'
                   else 'ERROR'
               end,
               try.execution_id || ':' || try.step || ':' || try.step_number * 10 + try.attempts,
               case when report.ordinal > 10 then 'worker-' || try.number % 12 end,
               case when report.ordinal = 13 then try.seconds end,
               case
                   when report.ends and try.attempts < try.failures
                   then 'HTTP 503 from https://api.example.com/' || try.number
               end,
               '{"data": {"rows": [{"id": 1, "name": "xxxxxxxxxx", "v": 1.5}, '
               '{"id": 2, "name": "yyyyyyyyyy", "v": 3.0}]}}'::jsonb
        from   try
        cross join (
            values ('command.issued', 10, false, interval '0.5 seconds'),
                   ('command.claimed', 11, false, interval '0.7 seconds'),
                   ('command.started', 12, false, interval '0.8 seconds'),
                   ('call.done', 13, true, interval '0.8 seconds'),
                   ('command.completed', 14, true, interval '0.8 seconds')
        ) as report (event_type, ordinal, ends, later)
    )
    insert into normalizer.events (
        event_id, execution_id, event_type, step, status, attempts, max_attempts, created_at,
        worker_id, command_id, duration, error, context, meta, evidence, shape, source_topic,
        source_partition, source_offset, recorded_at, ingested_at
    )
    select (((extract(epoch from at) * 1000)::bigint - 1704067200000) << 22)
               | ((number % 1024) << 12) | ordinal,
           execution_id, event_type, step, status, attempts, 3, at, worker_id, command_id, duration,
           error, context, jsonb_build_object('attempts', attempts), 212, 'executor',
           'noetl.events', (number % 8), (number / 8 + 1) * 5000 + ordinal,
           at + interval '20 milliseconds', at
    from   said
    order by 1
"""
