-- Readers see views only.
create or replace view projector.jobs as
with held as (
    select (classid::bigint << 32) | objid::bigint as lock_key
    from   pg_locks
    where  locktype = 'advisory' and objsubid = 1 and granted
    and    database = (select oid from pg_database where datname = current_database())
)
select   job.job_id,
         job.run,
         job.kind,
         job.spec,
         case
             when job.state <> 'running'
                  or exists (select from held where held.lock_key = job.lock_key)
             then job.state
             else 'interrupted'
         end as state,
         job.reason,
         job.progress_ratio,
         job.records_per_s,
         case
             when job.state = 'running' and job.progress_ratio > 0 and job.progress_ratio < 1
                  and job.records_per_s > 0
             then coalesce(sum(part.records), 0)::double precision
                  * (1 - job.progress_ratio) / job.progress_ratio / job.records_per_s
         end as remaining_s,
         job.throttled_by_lag_s,
         job.throttled_by_rate_s,
         coalesce(sum(part.records), 0)::bigint     as records,
         coalesce(sum(part.holes), 0)::bigint       as holes,
         coalesce(sum(part.expired), 0)::bigint     as expired,
         coalesce(sum(part.outcomes), 0)::bigint    as outcomes,
         coalesce(sum(part.stored), 0)::bigint      as stored,
         coalesce(sum(part.duplicate), 0)::bigint   as duplicate,
         coalesce(sum(part.merged), 0)::bigint      as merged,
         coalesce(sum(part.quarantined), 0)::bigint as quarantined,
         coalesce(sum(part.ignored), 0)::bigint     as ignored,
         coalesce(sum(part.changed), 0)::bigint     as changed,
         coalesce(sum(part.unchanged), 0)::bigint   as unchanged,
         coalesce(sum(part.rejected), 0)::bigint     as rejected,
         job.started_at,
         job.updated_at,
         job.ended_at
from     normalizer.jobs as job
left join normalizer.job_parts as part using (job_id, run)
group by job.job_id, job.run;

comment on view projector.jobs is
    'Which jobs over history run or ran, how far and how fast are they, what throttled them, '
    'and what were the outcomes of their records?';
comment on column projector.jobs.job_id is 'id of the job. A run that continues keeps it';
comment on column projector.jobs.run is 'number of the run, from 1';
comment on column projector.jobs.kind is 'backfill, renormalize, redrive or redact';
comment on column projector.jobs.spec is 'its options';
comment on column projector.jobs.state is 'running, interrupted, or how it ended';
comment on column projector.jobs.reason is 'why it ended, if there is something to add';
comment on column projector.jobs.progress_ratio is
    'share of its source that is done, 0 to 1, or null if that is not known';
comment on column projector.jobs.records_per_s is 'speed, in records per second';
comment on column projector.jobs.remaining_s is 'seconds that it still needs at this speed';
comment on column projector.jobs.throttled_by_lag_s is
    'seconds that it paused because the service lagged';
comment on column projector.jobs.throttled_by_rate_s is
    'seconds that it paused to keep to its rate limit';
comment on column projector.jobs.records is 'records read';
comment on column projector.jobs.holes is 'offsets without a record';
comment on column projector.jobs.expired is 'offsets that retention deleted before they were read';
comment on column projector.jobs.outcomes is 'outcomes of its records, in all';
comment on column projector.jobs.stored is 'outcomes that became rows';
comment on column projector.jobs.duplicate is 'outcomes that were stored already';
comment on column projector.jobs.merged is 'outcomes that changed an event that was stored already';
comment on column projector.jobs.quarantined is 'outcomes that were rejected';
comment on column projector.jobs.ignored is 'outcomes that are no event';
comment on column projector.jobs.changed is 'stored rows that the job changed';
comment on column projector.jobs.unchanged is 'stored rows that the job left as they were';
comment on column projector.jobs.rejected is 'stored rows that today''s rules would reject';
comment on column projector.jobs.started_at is 'when it began';
comment on column projector.jobs.updated_at is 'when the runner last reported its progress';
comment on column projector.jobs.ended_at is 'when it ended, or null while it runs';

grant select on projector.jobs to normalizer_writer, projector_reader;
