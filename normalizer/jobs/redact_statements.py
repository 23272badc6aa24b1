"""The SQL statements that redact secrets in every table except `events`.

These tables have no key in common, so they're read by the physical order of their rows (ctid), a
number of blocks at a time. A changed row moves to a later block and is read there again, which
changes nothing. Counters are the exception. They're read by the time that comes first in their key,
which redaction never changes.
"""

from typing import Final

BLOCKS: Final = """
    select pg_relation_size($1::text::regclass) / current_setting('block_size')::bigint
"""

_IN_BLOCKS: Final = """
    ctid >= format('(%s,0)', $1::bigint)::tid and ctid < format('(%s,0)', $2::bigint)::tid
"""


def read_texts(table: str, column: str) -> str:
    """Build the statement that reads the texts in a range of blocks."""
    return f"""
        select ctid::text as row_id, {column} as said
        from   {table}
        where  {_IN_BLOCKS} and {column} is not null
    """  # noqa: S608 - names from this module


def change_texts(table: str, column: str) -> str:
    """Build the statement that changes texts, unless another process has changed them meanwhile."""
    return f"""
        update {table} as kept
        set    {column} = wanted.becomes
        from   unnest($1::text[], $2::text[], $3::text[]) as wanted (row_id, was, becomes)
        where  kept.ctid = any($1::text[]::tid[])
        and    kept.ctid = wanted.row_id::tid
        and    kept.{column} = wanted.was
        returning 1
    """  # noqa: S608 - names from this module


# Finds the counters whose key contains a text, such as the name of a step, because a secret may be
# in it. Each row has the table, the column with the text, and the column of the time that comes
# first in the key.
COUNTED_TEXTS: Final = """
    select   counter.relname::text as counter_table, name.attname::text as text_column,
             moment.attname::text as time_column
    from     pg_constraint as key
    join     pg_class      as counter on counter.oid = key.conrelid
    join     pg_attribute  as shard
             on  shard.attrelid = key.conrelid
             and shard.attname = 'shard'
             and shard.attnum = any(key.conkey)
    join     pg_attribute  as moment
             on  moment.attrelid = key.conrelid
             and moment.attnum = key.conkey[1]
    join     pg_attribute  as name
             on  name.attrelid = key.conrelid
             and name.attnum = any(key.conkey)
             and name.atttypid = 'text'::regtype
    where    key.contype = 'p'
    and      key.connamespace = 'projector'::regnamespace
    order by 1, 2
"""


def step_end(counted_in: str, timed: str) -> str:
    """Build the statement that returns where the next step ends, or null after the last step."""
    return f"""
        select max(at)
        from   (
                   select   {timed} as at
                   from     projector.{counted_in}
                   where    {timed} > coalesce($1::timestamptz, '-infinity')
                   order by {timed}
                   limit    $2::bigint
               ) as step
    """  # noqa: S608 - names from the catalog


def read_names(counted_in: str, named: str, timed: str) -> str:
    """Build the statement that reads the texts of counters in a range of times, with counts."""
    return f"""
        select   {named} as said, count(*) as counters
        from     projector.{counted_in}
        where    {timed} > coalesce($1::timestamptz, '-infinity') and {timed} <= $2::timestamptz
        group by said
    """  # noqa: S608 - names from the catalog


RENAME_COUNTS: Final = """
    select projector.rename_counts(
               $1::text, $2::text, $3::text, coalesce($4::timestamptz, '-infinity'),
               $5::timestamptz, $6::text[], $7::text[]
           )
"""
