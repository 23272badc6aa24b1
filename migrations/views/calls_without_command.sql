create or replace view projector.calls_without_command as
select   hour, step, event_type, status, sum(without_command)::bigint as events
from     projector.event_hours
where    event_type in (select event_type from projector.event_kinds where subject = 'call')
group by hour, step, event_type, status
having   sum(without_command) <> 0;

comment on view projector.calls_without_command is
    'How many events of calls name no command? They are counted as events, and belong to no '
    'call.';
comment on column projector.calls_without_command.hour is 'the hour, UTC';
comment on column projector.calls_without_command.step is
    'name of the step, or empty if no event names one';
comment on column projector.calls_without_command.event_type is 'type in the producer''s spelling';
comment on column projector.calls_without_command.status is 'canonical status';
comment on column projector.calls_without_command.events is 'events';

grant select on projector.calls_without_command to normalizer_writer, projector_reader;
