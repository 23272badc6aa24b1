create or replace view projector.attempts_by_status as
select   minute as bucket_start, 60 as bucket_s, event_type, status, attempts,
         sum(events)::bigint as events, sum(attempts_defaulted)::bigint as attempts_defaulted
from     projector.event_minutes
where    minute >= projector.to_hour(now()) - interval '48 hours'
group by minute, event_type, status, attempts
having   sum(events) <> 0
union all
select   hour, 3600, event_type, status, attempts, sum(events)::bigint,
         sum(attempts_defaulted)::bigint
from     projector.event_hours
where    hour < projector.to_hour(now()) - interval '48 hours'
group by hour, event_type, status, attempts
having   sum(events) <> 0;

comment on view projector.attempts_by_status is
    'How many events of each type ended in which status at which attempt (0 is the first), over '
    'time? Each event is counted once: by the minute for the last 48 full hours and the current '
    'one, and by the hour before that. events / bucket_s is the rate per second. The current '
    'minute is not complete yet. attempts is the number that the event itself was sent with. It is '
    '0 if it was sent with none, and attempts_defaulted counts these. So do not count calls here: '
    'a retry whose worker sends no number is counted as attempt 0 here, and under its own number '
    'in call_outcomes_by_attempt. Events of the step __orchestrate__ are included. event_counts '
    'can leave them out.';
comment on column projector.attempts_by_status.bucket_start is 'start of the minute or hour, UTC';
comment on column projector.attempts_by_status.bucket_s is
    'length of the bucket: 60 or 3,600 seconds';
comment on column projector.attempts_by_status.event_type is 'type in the producer''s spelling';
comment on column projector.attempts_by_status.status is 'canonical status';
comment on column projector.attempts_by_status.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.attempts_by_status.events is 'events';
comment on column projector.attempts_by_status.attempts_defaulted is
    'events that do not say which attempt they are of: they count as attempts 0';

grant select on projector.attempts_by_status to normalizer_writer, projector_reader;
