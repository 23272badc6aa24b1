"""The SQL statements with which `forget` finds and erases the rows of an execution."""

from typing import Final

# If this is true, the counts that stay would be wrong. Retention skips such executions too.
IS_DIVERGENT: Final = """
    select exists (
        select
        from   projector.divergences
        where  ended_at is null
        and    (
                   execution_id = $1::bigint
                   or execution_id is null and projection in ('execution_facts', 'call_facts')
               )
    )
"""

ADD_FORGOTTEN: Final = """
    insert into normalizer.forgotten_executions (execution_id, who, why)
    values ($1::bigint, $2::text, $3::text)
    on conflict on constraint forgotten_executions_pkey do nothing
"""

FIND_EVENTS: Final = """
    select event_id, source_topic, source_incarnation, source_partition, source_offset,
           case when coercions @> '[{"rule": "opaque_id"}]' then coercions end as coercions
    from   normalizer.events
    where  execution_id = $1::bigint
"""

COUNT_CALLS: Final = """
    select count(*) from projector.call_facts where execution_id = $1::bigint
"""

_PAGE: Final = """
    with page as materialized (
        select   source_topic, source_incarnation, source_partition, offset_block, merge_id,
                 source_offsets, source_indexes, event_ids
        from     normalizer.merged_records
        where    (source_topic, source_incarnation, source_partition, offset_block, merge_id)
                 > ($1::text, $2::integer, $3::integer, $4::bigint, $5::bigint)
        order by source_topic, source_incarnation, source_partition, offset_block, merge_id
        limit    $6::integer
    ),
    reported as materialized (
        select source_topic, source_incarnation, source_partition, offset_block, merge_id,
               one.source_offset, one.source_index, one.event_id, one.number,
               one.event_id in (select unnest($7::bigint[])) as goes
        from   page
        cross join lateral unnest(source_offsets, source_indexes, event_ids) with ordinality
                               as one (source_offset, source_index, event_id, number)
    ),
    left_over as materialized (
        select   source_topic, source_incarnation, source_partition, offset_block, merge_id,
                 array_agg(source_offset order by number) filter (where not goes) as source_offsets,
                 array_agg(source_index order by number) filter (where not goes) as source_indexes,
                 array_agg(event_id order by number) filter (where not goes) as event_ids
        from     reported
        group by source_topic, source_incarnation, source_partition, offset_block, merge_id
        having   bool_or(goes)
    )
"""
_FOUND: Final = """
    select   (select count(*) from reported where goes), source_topic, source_incarnation,
             source_partition, offset_block, merge_id
    from     page
    order by source_topic desc, source_incarnation desc, source_partition desc, offset_block desc,
             merge_id desc
    limit    1
"""
_KEY: Final = "source_topic, source_incarnation, source_partition, offset_block, merge_id"

FIND_MERGED_RECORDS: Final = f"{_PAGE} {_FOUND}"

# Deletes the notes about merged records of these events.
DELETE_MERGED_RECORDS: Final = f"""
    {_PAGE},
    emptied as (
        delete from normalizer.merged_records
        where  ({_KEY}) in (select {_KEY} from left_over where event_ids is null)
    ),
    shortened as (
        update normalizer.merged_records as kept
        set    source_offsets = left_over.source_offsets,
               source_indexes = left_over.source_indexes,
               event_ids      = left_over.event_ids
        from   left_over
        where  left_over.event_ids is not null
        and    (kept.source_topic, kept.source_incarnation, kept.source_partition,
                kept.offset_block, kept.merge_id)
               = (left_over.source_topic, left_over.source_incarnation, left_over.source_partition,
                  left_over.offset_block, left_over.merge_id)
    )
    {_FOUND}
"""  # noqa: S608 - parts from this module

# Reads a page of quarantined records. A record's bytes are returned only if they may contain one of
# the names, and the caller then checks whether they really do.
READ_RAW: Final = """
    select   source_topic, source_incarnation, source_partition, source_offset,
             case when may.name_it then key end as key,
             case when may.name_it then value end as value,
             case when may.name_it then raw.header_values end as headers
    from     (
                 select   source_topic, source_incarnation, source_partition, source_offset, key,
                          value,
                          (
                              select string_agg(decode(header ->> 1, 'base64'), '\\x0a'::bytea)
                              from   jsonb_array_elements(headers) as header
                              where  header ->> 1 is not null
                          ) as header_values
                 from     normalizer.quarantine_raw
                 where    (source_topic, source_incarnation, source_partition, source_offset)
                          > ($1::text, $2::integer, $3::integer, $4::bigint)
                 order by source_topic, source_incarnation, source_partition, source_offset
                 limit    64
             ) as raw
    cross join lateral (
        select exists (
                   select
                   from   unnest($5::bytea[]) as name
                   where  position(name in key) > 0 or position(name in value) > 0
                   or     position(name in raw.header_values) > 0
               ) as name_it
    ) as may
    order by source_topic, source_incarnation, source_partition, source_offset
"""

_OF_THESE: Final = """
    join   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
               as wanted (source_topic, source_incarnation, source_partition, source_offset)
           using (source_topic, source_incarnation, source_partition, source_offset)
"""
_ERASED_TEXT: Final = "'erased with its execution'"

# Also finds entries whose bytes retention has deleted.
FIND_ENTRIES: Final = """
    select source_topic, source_incarnation, source_partition, source_offset
    from   normalizer.quarantine
    where  execution_id = $1::bigint
"""

EMPTY_ENTRIES: Final = f"""
    update normalizer.quarantine
    set    detail = {_ERASED_TEXT}, sample = null, execution_id = nullif(execution_id, $5::bigint)
    where  quarantine_id in (select quarantine_id from normalizer.quarantine {_OF_THESE})
"""  # noqa: S608 - parts from this module

EMPTY_ATTEMPTS: Final = f"""
    update normalizer.redrive_attempts
    set    detail = {_ERASED_TEXT}
    where  quarantine_id in (select quarantine_id from normalizer.quarantine {_OF_THESE})
"""  # noqa: S608 - parts from this module

# Empties the row instead of deleting it. If the record is read again, the row keeps its bytes from
# being stored again. Only rows that aren't empty yet are counted, because an earlier try may have
# been committed although its response was lost.
EMPTY_RAW: Final = f"""
    with gone as (
        update normalizer.quarantine_raw as raw
        set    key = null, value = null, headers = null, value_sha256 = '', whole = false,
               kept_at = 'infinity'
        from   (
                   select source_topic, source_incarnation, source_partition, source_offset
                   from   normalizer.quarantine_raw {_OF_THESE}
               ) as emptied
        where  (raw.source_topic, raw.source_incarnation, raw.source_partition, raw.source_offset)
             = (emptied.source_topic, emptied.source_incarnation, emptied.source_partition,
                emptied.source_offset)
        and    raw.kept_at <> 'infinity'
        returning 1
    )
    select count(*) from gone
"""  # noqa: S608 - parts from this module

DELETE_ROW_REJECTIONS: Final = """
    delete from normalizer.job_rejections
    where  event_id in (
               select event_id from normalizer.events where execution_id = $1::bigint
           )
"""

DELETE_ASSIGNED_IDS: Final = (
    "delete from normalizer.assigned_ids where event_id = any($1::bigint[])"
)

# A drift finding quotes a value of a record, which was either stored as a row or merged into one.
# So look for the record in both places.
DELETE_DRIFT: Final = """
    delete from normalizer.drift_findings
    where  (source_topic, source_incarnation, source_partition, source_offset) in (
               select * from unnest($2::text[], $3::integer[], $4::integer[], $5::bigint[])
           )
    or     exists (
               select
               from   normalizer.merged_records as again
               cross join lateral unnest(again.source_offsets, again.event_ids)
                                      as reported (source_offset, event_id)
               where  again.source_topic = drift_findings.source_topic
               and    again.source_incarnation = drift_findings.source_incarnation
               and    again.source_partition = drift_findings.source_partition
               and    again.offset_block = drift_findings.source_offset >> 12
               and    reported.source_offset = drift_findings.source_offset
               and    reported.event_id in (select unnest($1::bigint[]))
           )
"""

LOCK_EXECUTION: Final = "select projector.lock_executions(array[$1::bigint])"

# Skips locked rows, because the process that locked one may be waiting for the execution.
LOCK_EVENTS: Final = """
    with locked as (
        select   event_id
        from     normalizer.events
        where    execution_id = $1::bigint
        order by event_id
        for update skip locked
    )
    select count(*) as locked,
           (select count(*) from normalizer.events where execution_id = $1::bigint) as stored
    from   locked
"""

COUNT_EVENTS: Final = """
    select events from projector.execution_facts where execution_id = $1::bigint
"""

DELETE_EXECUTION: Final = "select projector.archive_executions(array[$1::bigint])"

ADD_ERASED: Final = """
    update normalizer.forgotten_executions
    set    events = events + $2::bigint, rejected = rejected + $3::bigint
    where  execution_id = $1::bigint
"""

END: Final = """
    update normalizer.forgotten_executions
    set    ended_at = clock_timestamp()
    where  execution_id = $1::bigint
"""
