create or replace view projector.retries_by_minute as
select   minute, step, sum(first_tries)::bigint as first_tries, sum(retries)::bigint as retries
from     projector.retry_minutes
where    minute >= (select kept_from from projector.maintenance_state where subject = 'minutes')
group by minute, step
having   sum(first_tries) <> 0 or sum(retries) <> 0;

comment on view projector.retries_by_minute is
    'How many first attempts and how many retries ended in each minute, by step? Minutes are '
    'kept for two days. Calls of the step __orchestrate__ are left out.';
comment on column projector.retries_by_minute.minute is 'the minute, UTC';
comment on column projector.retries_by_minute.step is
    'name of the step, or empty if no event names one';
comment on column projector.retries_by_minute.first_tries is 'attempts with attempts = 0';
comment on column projector.retries_by_minute.retries is 'attempts with attempts > 0';

grant select on projector.retries_by_minute to normalizer_writer, projector_reader;
