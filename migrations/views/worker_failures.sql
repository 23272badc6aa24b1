create or replace view projector.worker_failures as
select   hour, worker_id, sum(calls)::bigint as calls,
         coalesce(sum(calls) filter (where status <> 'COMPLETED'), 0)::bigint as failed,
         coalesce(sum(calls) filter (where status <> 'COMPLETED'), 0)::double precision
             / sum(calls)::double precision as error_rate,
         sum(duration_us)::double precision / 1000000
             / nullif(sum(timed), 0)::double precision as mean_duration_s
from     projector.worker_hours
group by hour, worker_id
having   sum(calls) <> 0;

comment on view projector.worker_failures is
    'Which worker fails more than others? error_rate = failed / calls. Calls of the step '
    '__orchestrate__ are left out.';
comment on column projector.worker_failures.hour is 'the hour, UTC';
comment on column projector.worker_failures.worker_id is 'the worker';
comment on column projector.worker_failures.calls is
    'number of finished attempts (rows of projector.calls)';
comment on column projector.worker_failures.failed is
    'attempts that ended FAILED, ERROR or CANCELLED';
comment on column projector.worker_failures.error_rate is 'failed / calls';
comment on column projector.worker_failures.mean_duration_s is
    'mean of the known durations, in seconds';

grant select on projector.worker_failures to normalizer_writer, projector_reader;
