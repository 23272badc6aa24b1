"""Every SQL statement of the store, by name."""

from typing import Final

from normalizer.core.encoded_events import COLUMNS
from normalizer.core.identity.digests import SHORT
from normalizer.envelope import Envelope

EVENT_COLUMNS: Final = ("batch_id", *COLUMNS)
"""The columns that COPY writes, in order. The others have defaults."""

SELECTED: Final = ", ".join(Envelope.__struct_fields__)
"""The columns of an envelope."""

CLUSTER_OF_TOPIC: Final = "select cluster_id from normalizer.source_topics where topic = $1::text"

# If another process adds the topic at the same moment, its cluster stays, unless the operator
# accepts a move of the topic.
SET_CLUSTER_OF_TOPIC: Final = """
    insert into normalizer.source_topics as known (topic, cluster_id)
    values ($1::text, $2::text)
    on conflict on constraint source_topics_pkey do update
    set    cluster_id = excluded.cluster_id
    where  $3::boolean
"""

# Waits for the owner's transaction in flight.
LOCK_LATEST_POSITION: Final = """
    select   incarnation, next_offset, holder, slice_records
    from     normalizer.source_positions
    where    topic = $1::text and partition = $2::integer
    and      incarnation >= all (
                 select incarnation
                 from   normalizer.dedup_horizon
                 where  topic = $1::text and partition = $2::integer
                 and    cluster_id is not null
             )
    order by incarnation desc
    limit    1
    for      update
"""

CLAIM: Final = """
    update normalizer.source_positions
    set    owner = $4::text, epoch = epoch + 1, claimed_at = clock_timestamp(),
           holder = $5::text, slice_records = $6::integer,
           shapes = case when $8::boolean then $7::text else shapes end
    where  (topic, incarnation, partition) = ($1::text, $2::integer, $3::integer)
    returning incarnation, epoch, next_offset, cluster_id, last_offset, last_recorded_ms, last_crc,
              slice_records, shapes
"""

# Keeps a new owner from looking dead. The owner hasn't seen the end of the log yet, so the known
# time up to which it was read stays. A process that dies at each start claims again and again. Its
# partitions are suspects, whose claim isn't a sign of life.
CLAIM_HEARTBEAT: Final = """
    insert into normalizer.source_heartbeats as reported
           (topic, partition, incarnation, epoch, next_offset, heartbeat_at)
    select topic, partition, incarnation, epoch, next_offset, clock_timestamp()
    from   normalizer.source_positions
    where  (topic, incarnation, partition) = ($1::text, $2::integer, $3::integer)
    and    slice_records is null
    on conflict on constraint source_heartbeats_pkey do update
    set    (incarnation, epoch, next_offset, log_end, stopped, heartbeat_at)
         = (excluded.incarnation, excluded.epoch, excluded.next_offset, null, false,
            excluded.heartbeat_at),
           (end_seen_at, behind_since, mark_offset, mark_at) = (
               select reported.end_seen_at, reported.behind_since, reported.mark_offset,
                      reported.mark_at
               where  reported.incarnation = excluded.incarnation
           )
"""

# For all topics, because no other process has this holder's name.
RELEASE_CLAIMS: Final = """
    update normalizer.source_positions
    set    holder = null
    where  holder = $1::text
"""

TAKE_ALONE: Final = """
    update normalizer.source_positions
    set    slice_records = $5::integer
    where  (topic, incarnation, partition, epoch)
         = ($1::text, $2::integer, $3::integer, $4::bigint)
"""

# The incarnation whose position was deleted, or that a backfill read, or else 0.
DELETED_INCARNATION: Final = """
    select coalesce(max(incarnation), 0)
    from   normalizer.dedup_horizon
    where  topic = $1::text and partition = $2::integer and cluster_id is not null
"""

# Adds a row to lock, so that the first claim of a partition and a job that writes its records see
# each other.
ADD_DEDUP_HORIZON: Final = """
    insert into normalizer.dedup_horizon (topic, incarnation, partition, next_offset, cluster_id)
    select   topic, incarnation, partition, 0, $4::text
    from     unnest($1::text[], $2::integer[], $3::integer[])
                 as wanted (topic, incarnation, partition)
    order by topic, incarnation, partition
    on conflict on constraint dedup_horizon_pkey do nothing
"""

LOCK_DEDUP_HORIZON: Final = """
    select   horizon.topic, horizon.incarnation, horizon.partition, horizon.next_offset
    from     normalizer.dedup_horizon as horizon
    join     unnest($1::text[], $2::integer[], $3::integer[])
                 as wanted (topic, incarnation, partition)
             using (topic, incarnation, partition)
    order by horizon.topic, horizon.incarnation, horizon.partition
    for update of horizon
"""

# Returns no row if another process was first. Then the position exists and can be claimed.
BEGIN_POSITION: Final = """
    insert into normalizer.source_positions
           (topic, incarnation, partition, cluster_id, owner, start_offset, next_offset,
            dedup_offset, last_offset, last_recorded_ms, last_crc, shapes, holder, claimed_at)
    select topic, incarnation, partition, coalesce(cluster_id, $3::text), $4::text, $5::bigint,
           $5::bigint, next_offset, last_offset, last_recorded_ms, last_crc, $6::text, $8::text,
           clock_timestamp()
    from   normalizer.dedup_horizon
    where  topic = $1::text and incarnation = $7::integer and partition = $2::integer
    on conflict on constraint source_positions_pkey do nothing
    returning incarnation, epoch, next_offset, cluster_id, last_offset, last_recorded_ms, last_crc,
              shapes
"""

# Raises the epoch of the earlier incarnation too, which fences its owner.
BEGIN_NEXT_INCARNATION: Final = """
    with earlier as (
        update    normalizer.source_positions
        set       epoch = epoch + 1
        where     topic = $1::text and incarnation = $2::integer and partition = $3::integer
        returning topic, incarnation, partition, shapes
    )
    insert into normalizer.source_positions
           (topic, incarnation, partition, cluster_id, owner, start_offset, next_offset, shapes,
            holder, claimed_at)
    select topic, incarnation + 1, partition, $4::text, $5::text, $6::bigint, $6::bigint, shapes,
           $7::text, clock_timestamp()
    from   earlier
    returning incarnation, epoch, next_offset, cluster_id, last_offset, last_recorded_ms, last_crc
"""

LOCK_POSITIONS: Final = """
    select   position.topic, position.incarnation, position.partition, position.epoch,
             position.next_offset, position.dedup_offset, position.owner
    from     normalizer.source_positions as position
    join     unnest($1::text[], $2::integer[], $3::integer[])
                 as wanted (topic, incarnation, partition)
             using (topic, incarnation, partition)
    order by position.topic, position.incarnation, position.partition
    for update of position
"""

FIND_POSITIONS: Final = """
    select   position.topic, position.incarnation, position.partition, position.epoch,
             position.owner
    from     normalizer.source_positions as position
    join     unnest($1::text[], $2::integer[], $3::integer[])
                 as wanted (topic, incarnation, partition)
             using (topic, incarnation, partition)
"""

# dedup_offset stays, so that records that are read again are looked up by their coordinates.
REWIND_POSITION: Final = """
    update normalizer.source_positions
    set    rewound     = rewound + next_offset - $4::bigint,
           next_offset = $4::bigint
    where  (topic, incarnation, partition) = ($1::text, $2::integer, $3::integer)
"""

RECORD_CHANGE: Final = """
    with taken as (
        update    normalizer.source_positions
        set       owner = $9::text, epoch = epoch + 1, holder = null, slice_records = null
        where     (topic, incarnation, partition) = ($1::text, $2::integer, $3::integer)
        returning epoch
    )
    insert into normalizer.position_changes
           (topic, incarnation, partition, from_offset, to_offset, action, who, why, epoch)
    select $1::text, $2::integer, $3::integer, $4::bigint, $5::bigint, $6::text, $7::text,
           $8::text, epoch
    from   taken
    returning epoch
"""

MOVE_POSITIONS: Final = """
    update normalizer.source_positions as position
    set    next_offset      = moved.next_offset,
           dedup_offset     = greatest(position.dedup_offset, moved.next_offset),
           records          = position.records + moved.records,
           holes            = position.holes + moved.holes,
           outcomes         = position.outcomes + moved.outcomes,
           stored           = position.stored + moved.stored,
           duplicate        = position.duplicate + moved.duplicate,
           merged           = position.merged + moved.merged,
           quarantined      = position.quarantined + moved.quarantined,
           ignored          = position.ignored + moved.ignored,
           last_offset      = coalesce(moved.last_offset, position.last_offset),
           last_recorded_ms = case when moved.last_offset is null then position.last_recorded_ms
                                   else moved.last_recorded_ms end,
           last_crc         = coalesce(moved.last_crc, position.last_crc),
           slice_records    = moved.slice_records,
           committed_at     = case when moved.last_offset is null then position.committed_at
                                   else clock_timestamp() end
    from   unnest(
               $1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[],
               $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[],
               $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::integer[]
           ) as moved (
               topic, incarnation, partition, next_offset, records, holes,
               outcomes, stored, duplicate, merged, quarantined,
               ignored, last_offset, last_recorded_ms, last_crc, slice_records
           )
    where  (position.topic, position.incarnation, position.partition)
         = (moved.topic, moved.incarnation, moved.partition)
"""

# Locks both tables until the transaction ends. A transaction that raises the horizon or forgets an
# execution waits for the batches that have read them before.
BEGIN_BATCH: Final = """
    select nextval('normalizer.batch_id') as batch_id,
           nullif(expired_before, '-infinity') as expired_before,
           array(
               select execution_id
               from   normalizer.forgotten_executions
               where  execution_id = any((select $1::bigint[])::bigint[])
           ) as forgotten
    from   normalizer.retention_horizon
"""

CHECK_CONSTRAINTS_NOW: Final = "set constraints all immediate"

# The newest incarnation of each partition that these topics have.
NEWEST_POSITIONS: Final = """
    select   distinct on (topic, partition)
             topic, partition, incarnation, cluster_id, next_offset, owner,
             last_offset, last_recorded_ms, last_crc, slice_records
    from     normalizer.source_positions
    where    topic = any($1::text[])
    order by topic, partition, incarnation desc
"""

CLUSTERS_OF_TOPICS: Final = """
    select   topic, cluster_id
    from     normalizer.source_topics
    where    topic = any($1::text[])
    order by topic
"""

# Says who holds the lock that each of these server processes waits for. Without pg_read_all_stats
# the state of other roles' sessions is hidden, and left out.
LOCK_HOLDERS: Final = """
    select   waiting.pid,
             string_agg(
                 'pid ' || holder.pid || ' (' || concat_ws(', ',
                     holder.usename, nullif(holder.application_name, ''), holder.state
                 ) || ')', ', ' order by holder.pid
             ) as holders
    from     unnest($1::integer[])                          as waiting (pid)
    cross join lateral unnest(pg_blocking_pids(waiting.pid)) as blocking (pid)
    join     pg_stat_activity                               as holder on holder.pid = blocking.pid
    group by waiting.pid
"""

PROTOCOL: Final = "select protocol from normalizer.layout"


# The array is in a subselect, because planning with each of a batch's ids takes longer than finding
# them.
FIND_COORDINATES: Final = """
    select event_id, source_topic, source_incarnation, source_partition, source_offset, source_index
    from   normalizer.events
    where  event_id = any((select $1::bigint[])::bigint[])
"""

FIND_BATCHES: Final = """
    select event_id, batch_id
    from   normalizer.events
    where  event_id = any((select $1::bigint[])::bigint[])
"""

READ_EVENTS: Final = f"""
    select   {SELECTED}
    from     normalizer.events
    where    event_id = any((select $1::bigint[])::bigint[])
    order by event_id
"""  # noqa: S608 - column names of our own

LOCK_EVENTS: Final = f"{READ_EVENTS} for update"

FIND_ASSIGNED: Final = """
    select event_id
    from   normalizer.assigned_ids
    where  (source_topic, source_incarnation, source_partition, source_offset, source_index)
         = ($1::text, $2::integer, $3::integer, $4::bigint, $5::integer)
"""

# To the server, a transaction that's silent for a minute looks like a frozen process.
STILL_HERE: Final = "select"

# `offset 0` keeps the text from being computed twice, for its length and its hash.
DIGESTS: Final = f"""
    select   octet_length(written),
             case when octet_length(written) <= {SHORT} then written else sha256(written) end
    from     unnest($1::jsonb[]) with ordinality as given (value, number)
    cross join lateral (select convert_to(value::text, 'UTF8') offset 0) as one (written)
    order by number
"""  # noqa: S608 - a constant

ASSIGN_ID: Final = """
    insert into normalizer.assigned_ids
           (event_id, source_topic, source_incarnation, source_partition, source_offset,
            source_index)
    values (normalizer.gen_snowflake(), $1::text, $2::integer, $3::integer, $4::bigint, $5::integer)
    returning event_id
"""

# Finds some offsets of one source within a run. The index is BRIN and finds blocks, so
# `source_offset + 0` keeps the server from searching it for each offset.
FIND_BY_COORDINATES: Final = """
    select event_id, source_topic, source_incarnation, source_partition, source_offset, source_index
    from   normalizer.events
    where  source_topic = $1::text and source_incarnation = $2::integer
           and source_partition = $3::integer
           and source_offset between $4::bigint and $5::bigint
           and source_offset + 0 = any($6::bigint[])
"""

ADD_MERGED_RECORDS: Final = """
    insert into normalizer.merged_records (
        source_topic, source_incarnation, source_partition, offset_block, merge_id, source_offsets,
        source_indexes, event_ids
    )
    select   topic, incarnation, partition, "offset" >> 12, (select nextval('normalizer.batch_id')),
             array_agg("offset" order by number),
             array_agg(index order by number),
             array_agg(event_id order by number)
    from     unnest(
                 $1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::integer[], $6::bigint[]
             ) with ordinality
                 as reported (topic, incarnation, partition, "offset", index, event_id, number)
    group by topic, incarnation, partition, "offset" >> 12
    order by topic, incarnation, partition, "offset" >> 12
"""

FIND_MERGED_RECORDS: Final = """
    select merge_id, reported.event_id, source_topic, source_incarnation, source_partition,
           reported.source_offset, reported.source_index
    from   normalizer.merged_records
    join   (
               select distinct topic, incarnation, partition, "offset" >> 12 as offset_block
               from   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
                          as requested (topic, incarnation, partition, "offset")
           ) as wanted
           on (source_topic, source_incarnation, source_partition, merged_records.offset_block)
            = (wanted.topic, wanted.incarnation, wanted.partition, wanted.offset_block)
    cross join lateral unnest(source_offsets, source_indexes, event_ids)
                           as reported (source_offset, source_index, event_id)
"""

# The columns that a merge can change, with their types. The others stay as stored.
MERGED_COLUMNS: Final = (
    ("event_type", "text"),
    ("step", "text"),
    ("status", "text"),
    ("attempts", "integer"),
    ("max_attempts", "integer"),
    ("created_at", "timestamptz"),
    ("worker_id", "text"),
    ("command_id", "text"),
    ("iteration", "integer"),
    ("node_type", "text"),
    ("catalog_id", "bigint"),
    ("parent_event_id", "bigint"),
    ("parent_execution_id", "bigint"),
    ("duration", "double precision"),
    ("error", "text"),
    ("context", "jsonb"),
    ("result", "jsonb"),
    ("meta", "jsonb"),
    ("extra", "jsonb"),
    ("coercions", "jsonb"),
    ("evidence", "smallint"),
    ("shape", "text"),
    ("normalizer_version", "integer"),
    ("headers", "jsonb"),
    ("trace_id", "text"),
    ("recorded_at", "timestamptz"),
    ("merge_flags", "smallint"),
)

_SET_MERGED: Final = ", ".join(f"{name} = merged.{name}" for name, _ in MERGED_COLUMNS)
_MERGED_ARRAYS: Final = ", ".join(
    f"${number}::{kind}[]" for number, (_, kind) in enumerate(MERGED_COLUMNS, start=2)
)
_MERGED_NAMES: Final = ", ".join(name for name, _ in MERGED_COLUMNS)


UPDATE_EVENTS: Final = f"""
    update normalizer.events as event
    set    {_SET_MERGED}
    from   unnest($1::bigint[], {_MERGED_ARRAYS}) as merged (event_id, {_MERGED_NAMES})
    where  event.event_id = merged.event_id
"""  # noqa: S608 - column names of our own


# A transactional producer leaves a hole after each transaction, so holes within 1,024 offsets share
# a row.
ADD_GAPS: Final = """
    insert into normalizer.gaps as known (topic, incarnation, partition, reason, missing, offsets)
    select   topic, incarnation, partition, reason,
             range_agg(int8range(first_offset, next_offset)), sum(next_offset - first_offset)
    from     unnest(
                 $1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[], $6::text[]
             ) as met (topic, incarnation, partition, first_offset, next_offset, reason)
    group by topic, incarnation, partition, reason, first_offset >> 10
    order by topic, incarnation, partition, reason, first_offset >> 10
    on conflict on constraint gaps_pkey do update
    set    missing = known.missing + excluded.missing,
           offsets = known.offsets + excluded.offsets
"""

ADD_QUARANTINE: Final = """
    insert into normalizer.quarantine (
        reason, detail, sqlstate, shape, normalizer_version, source_topic, source_incarnation,
        source_partition, source_offset, source_index, value_bytes, recorded_at, sample,
        execution_id, batch_id
    )
    select refused.*, $15::bigint
    from   unnest(
               $1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[],
               $7::integer[], $8::integer[], $9::bigint[], $10::integer[], $11::bigint[],
               $12::timestamptz[], $13::text[], $14::bigint[]
           ) as refused
    on conflict on constraint quarantine_by_source do nothing
    returning source_topic, source_incarnation, source_partition, source_offset, source_index
"""

FIND_RAW: Final = """
    select kept.source_topic, kept.source_incarnation, kept.source_partition, kept.source_offset
    from   normalizer.quarantine_raw as kept
    join   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
               as refused (source_topic, source_incarnation, source_partition, source_offset)
           using (source_topic, source_incarnation, source_partition, source_offset)
"""

RAW_COLUMNS: Final = (
    "source_topic",
    "source_incarnation",
    "source_partition",
    "source_offset",
    "key",
    "value",
    "headers",
    "value_sha256",
    "whole",
)

# In this transaction projections don't follow, and the database marks them as divergent.
PROJECTIONS_OFF: Final = "select set_config('projector.off', 'on', true)"

# Topics of files from which a record was read, by a job or without one.
FILE_TOPICS: Final = """
    select topic from normalizer.job_parts where topic like 'file:%' and records > 0
    union
    select topic from normalizer.dedup_horizon where topic like 'file:%'
"""

# Ends each of our sessions that has written and then waited for its client longer than a statement
# may take. Sessions of other programs stay, even of the same role. It needs no special right.
END_STALLED_SESSIONS: Final = """
    with stalled as materialized (
        select pid, application_name as application
        from   pg_stat_activity
        where  datname = current_database()
        and    usename = current_user
        and    split_part(application_name, ' ', 1) in ('normalizer', 'projector')
        and    state = 'active'
        and    wait_event_type = 'Client'
        and    backend_xid is not null
        and    query_start < clock_timestamp() - current_setting('statement_timeout')::interval
    )
    select pid, application
    from   stalled
    where  pg_terminate_backend(pid)
"""
