"""The SQL statements of the jobs."""

from typing import Final

from normalizer.store.rows import SELECTED

# Selects only positions that a process is moving, because pausing the job doesn't help a partition
# that nobody reads. Processes write a heartbeat every three seconds. A minute is allowed, because
# in a busy database the heartbeat comes later, and that's when the job should pause.
LIVE_POSITIONS: Final = """
    select topic, partition, position.next_offset, position.cluster_id
    from   normalizer.source_heartbeats as reported
    join   normalizer.source_positions  as position using (topic, incarnation, partition)
    where  not reported.stopped and reported.heartbeat_at > now() - interval '1 minute'
"""

# Selects, for the newest incarnation of each partition, what was last read of it, and counts its
# incarnations. A deleted position counts too, because a new position for the partition would
# continue in the same incarnation.
LAST_READ: Final = """
    with known as (
        select topic, incarnation, partition, epoch, next_offset, cluster_id, last_offset,
               last_recorded_ms, last_crc
        from   normalizer.source_positions
        union all
        select topic, incarnation, partition, 0, coalesce(last_offset + 1, 0), cluster_id,
               last_offset, last_recorded_ms, last_crc
        from   normalizer.dedup_horizon as deleted
        where  cluster_id is not null
        and    not exists (
                   select
                   from   normalizer.source_positions as present
                   where  (present.topic, present.incarnation, present.partition)
                        = (deleted.topic, deleted.incarnation, deleted.partition)
               )
    )
    select   distinct on (topic, partition)
             topic, incarnation, partition, epoch, next_offset, cluster_id, last_offset,
             last_recorded_ms, last_crc, cluster_id <> '' as is_in_kafka,
             count(*) over (partition by topic, partition) as incarnations
    from     known
    order by topic, partition, incarnation desc
"""

CLUSTERS_OF_TOPICS: Final = "select topic, cluster_id from normalizer.source_topics"

TRY_LOCK: Final = "select pg_try_advisory_xact_lock($1::bigint)"

END_LOST: Final = """
    select pg_terminate_backend(pid, 5000)
    from   pg_locks
    where  locktype = 'advisory' and objsubid = 1 and granted
    and    (classid::bigint << 32 | objid::bigint) = $1::bigint and pid = any($2::integer[])
"""

# A run is over once it has nothing left to read. Then the next run begins.
LAST_RUN: Final = """
    select   run, owner,
             state = 'complete' or state <> 'running' and (
                 select bool_and(coalesce(part.next_offset >= part.end_offset, false))
                 from   normalizer.job_parts as part
                 where  (part.job_id, part.run) = (job.job_id, job.run)
             ) is true as is_over
    from     normalizer.jobs as job
    where    job_id = $1::text
    order by run desc
    limit    1
"""

BEGIN_RUN: Final = """
    insert into normalizer.jobs (job_id, run, kind, spec, owner, lock_key)
    values ($1::text, $2::integer, $3::text, $4::text, $5::text, $6::bigint)
    returning epoch
"""

RESUME_RUN: Final = """
    update normalizer.jobs
    set    owner = $3::text, epoch = epoch + 1, state = 'running', reason = '', ended_at = null,
           updated_at = now()
    where  job_id = $1::text and run = $2::integer
    returning epoch, throttled_by_lag_s, throttled_by_rate_s
"""

ADD_PARTS: Final = """
    insert into normalizer.job_parts (
        job_id, run, topic, incarnation, partition, start_offset, next_offset, end_offset
    )
    select $1::text, $2::integer, part.topic, part.incarnation, part.partition, part.start_offset,
           part.start_offset, part.end_offset
    from   unnest($3::text[], $4::integer[], $5::integer[], $6::bigint[], $7::bigint[])
           as part (topic, incarnation, partition, start_offset, end_offset)
    on conflict on constraint job_parts_pkey do nothing
"""

READ_PARTS: Final = """
    select   topic, incarnation, partition, start_offset, next_offset, end_offset, cursor
    from     normalizer.job_parts
    where    job_id = $1::text and run = $2::integer
    order by topic, incarnation, partition
"""

READ_TOTALS: Final = """
    select coalesce(sum(records), 0)::bigint     as records,
           coalesce(sum(holes), 0)::bigint       as holes,
           coalesce(sum(expired), 0)::bigint     as expired,
           coalesce(sum(outcomes), 0)::bigint    as outcomes,
           coalesce(sum(stored), 0)::bigint      as stored,
           coalesce(sum(duplicate), 0)::bigint   as duplicate,
           coalesce(sum(merged), 0)::bigint      as merged,
           coalesce(sum(quarantined), 0)::bigint as quarantined,
           coalesce(sum(ignored), 0)::bigint     as ignored,
           coalesce(sum(changed), 0)::bigint     as changed,
           coalesce(sum(unchanged), 0)::bigint   as unchanged,
           coalesce(sum(rejected), 0)::bigint     as rejected
    from   normalizer.job_parts
    where  job_id = $1::text and run = $2::integer
"""

# Only under the current epoch, because a runner that lost the job must not report for it.
WRITE_HEARTBEAT: Final = """
    update normalizer.jobs
    set    progress_ratio = greatest($4::double precision, progress_ratio),
           records_per_s = $5::double precision,
           throttled_by_lag_s = $6::double precision, throttled_by_rate_s = $7::double precision,
           updated_at = now()
    where  job_id = $1::text and run = $2::integer and epoch = $3::bigint
    returning true
"""

END_RUN: Final = """
    update normalizer.jobs
    set    progress_ratio = case when $8::text = 'complete' then 1
                        else greatest($4::double precision, progress_ratio) end,
           records_per_s = $5::double precision, throttled_by_lag_s = $6::double precision,
           throttled_by_rate_s = $7::double precision, state = $8::text, reason = $9::text,
           updated_at = now(), ended_at = now()
    where  job_id = $1::text and run = $2::integer and epoch = $3::bigint
    returning true
"""

LOCK_PARTS: Final = """
    select   part.topic, part.incarnation, part.partition, job.epoch, part.next_offset
    from     normalizer.job_parts as part
    join     normalizer.jobs      as job using (job_id, run)
    join     unnest($3::text[], $4::integer[], $5::integer[])
                 as wanted (topic, incarnation, partition)
             using (topic, incarnation, partition)
    where    part.job_id = $1::text and part.run = $2::integer
    order by part.topic, part.incarnation, part.partition
    for no key update of part, job
"""

MOVE_PARTS: Final = """
    update normalizer.job_parts as part
    set    next_offset = moved.next_offset,
           cursor      = coalesce(moved.cursor, part.cursor),
           records     = part.records + moved.records,
           holes       = part.holes + moved.holes,
           expired     = part.expired + moved.expired,
           outcomes    = part.outcomes + moved.outcomes,
           stored      = part.stored + moved.stored,
           duplicate   = part.duplicate + moved.duplicate,
           merged      = part.merged + moved.merged,
           quarantined = part.quarantined + moved.quarantined,
           ignored     = part.ignored + moved.ignored,
           changed     = part.changed + moved.changed,
           unchanged   = part.unchanged + moved.unchanged,
           rejected     = part.rejected + moved.rejected
    from   unnest(
               $3::text[], $4::integer[], $5::integer[], $6::bigint[], $7::text[], $8::bigint[],
               $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
               $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[],
               $19::bigint[]
           ) as moved (
               topic, incarnation, partition, next_offset, cursor, expired,
               records, holes, outcomes, stored, duplicate, merged, quarantined, ignored,
               changed, unchanged, rejected
           )
    where  part.job_id = $1::text and part.run = $2::integer
    and    (part.topic, part.incarnation, part.partition)
         = (moved.topic, moved.incarnation, moved.partition)
"""

# Raises the dedup horizon before a job writes records that the service hasn't reached yet.
ANNOUNCE_AHEAD: Final = """
    with ahead as (
        select   position.topic, position.incarnation, position.partition, wanted.next_offset
        from     normalizer.source_positions as position
        join     unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
                     as wanted (topic, incarnation, partition, next_offset)
                 using (topic, incarnation, partition)
        where    position.dedup_offset < wanted.next_offset
        order by position.topic, position.incarnation, position.partition
        for update of position
    )
    update normalizer.source_positions as position
    set    dedup_offset = ahead.next_offset + least(
               $5::bigint - ahead.next_offset % $5::bigint,
               9223372036854775807 - ahead.next_offset
           )
    from   ahead
    where  (position.topic, position.incarnation, position.partition)
         = (ahead.topic, ahead.incarnation, ahead.partition)
"""

LIVE_REACHED: Final = """
    select position.topic, position.incarnation, position.partition, position.dedup_offset
    from   normalizer.source_positions as position
    join   unnest($1::text[], $2::integer[], $3::integer[])
               as wanted (topic, incarnation, partition)
           using (topic, incarnation, partition)
"""

# Returns the dedup horizons without locking them, for a dry run. If the service reads the
# partition, it may be storing records of it right now, so the horizon is set above every offset.
READ_DEDUP_HORIZON: Final = """
    select topic, incarnation, partition,
           case when live.topic is null then horizon.next_offset else 1::bigint << 62 end
    from   normalizer.dedup_horizon as horizon
    full join normalizer.source_positions as live using (topic, incarnation, partition)
    join   unnest($1::text[], $2::integer[], $3::integer[])
               as wanted (topic, incarnation, partition)
           using (topic, incarnation, partition)
"""

MOVE_REACHED: Final = """
    update normalizer.dedup_horizon as horizon
    set    next_offset = moved.next_offset
    from   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
               as moved (topic, incarnation, partition, next_offset)
    where  (horizon.topic, horizon.incarnation, horizon.partition)
         = (moved.topic, moved.incarnation, moved.partition)
    and    horizon.next_offset < moved.next_offset
"""

ADD_BATCH: Final = """
    insert into normalizer.job_batches (batch_id, job_id, run)
    values ($1::bigint, $2::text, $3::integer)
"""

FIND_QUARANTINED: Final = """
    select source_topic, source_incarnation, source_partition, source_offset, source_index
    from   normalizer.quarantine
    join   unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
               as wanted (source_topic, source_incarnation, source_partition, source_offset)
           using (source_topic, source_incarnation, source_partition, source_offset)
"""

READ_EXPIRY: Final = """
    select nullif(expired_before, '-infinity') as expired_before,
           array(select execution_id from normalizer.forgotten_executions) as forgotten
    from   normalizer.retention_horizon
"""

# An estimate from the server's counters.
ROWS_IN_ALL: Final = """
    select greatest(pg_stat_get_live_tuples('normalizer.events'::regclass), 1)
"""

# Finds where a range of events ends: from the id $1 on, it returns the id of the event that's $2
# places further, or no row if there are fewer events.
CHUNK_END: Final = """
    select   event_id
    from     normalizer.events
    where    event_id >= $1::bigint
    order by event_id
    limit    1
    offset   $2::bigint
"""

# Selects rows that an older version of the rules stored. Version 0 is left out, because somebody
# inserted such a row with SQL.
READ_OUTDATED: Final = f"""
    select   {SELECTED}
    from     normalizer.events
    where    event_id between $1::bigint and $2::bigint
    and      normalizer_version between 1 and $3::integer - 1
    and      ($4::text is null or shape = $4::text)
    and      ($5::jsonb is null or coercions @> $5::jsonb)
    and      ($6::timestamptz is null or created_at >= $6::timestamptz)
    and      ($7::timestamptz is null or created_at < $7::timestamptz)
    order by event_id
"""  # noqa: S608 - column names of this project

LOCK_OUTDATED: Final = f"{READ_OUTDATED} for update"

ALL_EVENTS: Final = f"""
    select   {SELECTED}
    from     normalizer.events
    where    event_id between $1::bigint and $2::bigint
    order by event_id
"""  # noqa: S608 - column names of this project

ADD_ROW_REJECTIONS: Final = """
    insert into normalizer.job_rejections (job_id, run, event_id, reason, detail)
    select $1::text, $2::integer, rejected.event_id, rejected.reason, rejected.detail
    from   unnest($3::bigint[], $4::text[], $5::text[]) as rejected (event_id, reason, detail)
    on conflict on constraint job_rejections_pkey do nothing
"""

LIST_ROW_REJECTIONS: Final = """
    select   event_id, reason, detail
    from     normalizer.job_rejections
    where    job_id = $1::text and run = $2::integer
    order by event_id
    limit    $3::integer
"""

# The time is compared too, because retention may have deleted an earlier run with the same number,
# and the attempts of that run are still stored.
_TRIED_IN_RUN: Final = """
    tried.job_id = {job_id}::text and tried.run = {run}::integer
    and tried.tried_at >= (
        select started_at
        from   normalizer.jobs
        where  job_id = {job_id}::text and run = {run}::integer
    )
"""

# Selects entries that are still in quarantine and that this run hasn't tried, together with the
# record's bytes if they haven't been deleted.
READ_ENTRIES: Final = f"""
    select   entry.quarantine_id, entry.source_topic, entry.source_incarnation,
             entry.source_partition, entry.source_offset, entry.source_index, entry.recorded_at,
             raw.key, raw.value, raw.headers::text as headers, raw.whole
    from     normalizer.quarantine          as entry
    left join normalizer.quarantine_raw     as raw
             using (source_topic, source_incarnation, source_partition, source_offset)
    where    entry.quarantine_id > $1::bigint
    and      entry.redriven_at is null
    and      ($3::text is null or entry.reason = $3::text)
    and      ($4::text is null or entry.shape = $4::text)
    and      ($5::text is null or entry.source_topic = $5::text)
    and      ($6::integer is null or entry.normalizer_version = $6::integer)
    and      ($7::timestamptz is null or entry.quarantined_at >= $7::timestamptz)
    and      ($8::timestamptz is null or entry.quarantined_at < $8::timestamptz)
    and      ($9::bigint[] is null or entry.quarantine_id = any($9::bigint[]))
    and      not exists (
                 select from normalizer.redrive_attempts as tried
                 where  tried.quarantine_id = entry.quarantine_id
                 and    (
                            (not $10::boolean and tried.normalizer_version >= $11::integer)
                            or ({_TRIED_IN_RUN.format(job_id="$12", run="$13")})
                        )
             )
    order by entry.quarantine_id
    limit    $2::bigint
"""  # noqa: S608 - a part from this module

COUNT_TRIED: Final = f"""
    select count(*)
    from   normalizer.redrive_attempts as tried
    where  {_TRIED_IN_RUN.format(job_id="$1", run="$2")}
"""  # noqa: S608 - a part from this module

# The join leaves out entries that retention has deleted since they were read.
ADD_REDRIVE_ATTEMPTS: Final = """
    insert into normalizer.redrive_attempts
           (quarantine_id, tried_by, normalizer_version, outcome, detail, job_id, run)
    select tried.quarantine_id, $3::text, $4::integer, tried.outcome, tried.detail, $1::text,
           $2::integer
    from   unnest($5::bigint[], $6::text[], $7::text[]) as tried (quarantine_id, outcome, detail)
    join   normalizer.quarantine using (quarantine_id)
"""

MARK_REDRIVEN: Final = """
    update normalizer.quarantine
    set    redriven_at = now()
    where  quarantine_id = any($1::bigint[]) and redriven_at is null
"""

EVENTS_BETWEEN: Final = f"""
    select   {SELECTED}
    from     normalizer.events
    where    event_id between $1::bigint and $2::bigint
    and      ($3::timestamptz is null or created_at >= $3::timestamptz)
    and      ($4::timestamptz is null or created_at < $4::timestamptz)
    order by event_id
"""  # noqa: S608 - column names of this project

EVENTS_OF_EXECUTIONS: Final = f"""
    select   {SELECTED}
    from     normalizer.events
    where    event_id between $1::bigint and $2::bigint
    and      execution_id = any((select $3::bigint[])::bigint[])
    and      ($4::timestamptz is null or created_at >= $4::timestamptz)
    and      ($5::timestamptz is null or created_at < $5::timestamptz)
    order by event_id
"""  # noqa: S608 - column names of this project

# Ends a job, unless a process is running it: the statement takes the runner's lock, and finds
# nothing if it can't. The higher epoch fences a runner that has lost its lock without noticing. The
# parts end where reading has stopped, so that the run counts as over and the next command begins a
# new one.
END_UNFINISHED: Final = """
    with ended as (
        update normalizer.jobs as job
        set    epoch = epoch + 1, state = 'stopped', reason = $2::text, updated_at = now(),
               ended_at = now()
        where  job_id = $1::text
        and    run = (select max(run) from normalizer.jobs where job_id = $1::text)
        and    (state = 'running' or state <> 'complete' and exists (
                   select
                   from   normalizer.job_parts as part
                   where  (part.job_id, part.run) = (job.job_id, job.run)
                   and    (part.next_offset >= part.end_offset) is not true
               ))
        and    pg_try_advisory_xact_lock(lock_key)
        returning job_id, run
    ),
    closed as (
        update normalizer.job_parts as part
        set    end_offset = next_offset
        from   ended
        where  (part.job_id, part.run) = (ended.job_id, ended.run)
    )
    select run from ended
"""

LIST_RUNS: Final = """
    select   job_id, run, spec, state, reason, progress_ratio, started_at, records, holes, expired,
             outcomes, stored, duplicate, merged, quarantined, ignored, changed, unchanged, rejected
    from     projector.jobs
    order by started_at desc, job_id, run desc
    limit    $1::integer
"""
