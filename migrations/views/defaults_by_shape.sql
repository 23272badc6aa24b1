create or replace view projector.defaults_by_shape as
select   hour, shape, sum(events)::bigint as events,
         sum(attempts_defaulted)::bigint as attempts_defaulted,
         sum(status_from_name)::bigint as status_from_name,
         sum(time_from_log)::bigint as time_from_log
from     projector.arrival_hours
group by hour, shape
having   sum(events) <> 0;

comment on view projector.defaults_by_shape is
    'How much did producers leave out, by shape: the attempt, the status, the time? Each '
    'column counts events, by the hour in which Kafka received them.';
comment on column projector.defaults_by_shape.hour is 'the hour, UTC';
comment on column projector.defaults_by_shape.shape is 'wire shape of the record';
comment on column projector.defaults_by_shape.events is 'events';
comment on column projector.defaults_by_shape.attempts_defaulted is
    'events that do not say which attempt they are of: they count as attempts 0';
comment on column projector.defaults_by_shape.status_from_name is
    'events whose status was derived from their type';
comment on column projector.defaults_by_shape.time_from_log is
    'events whose time is Kafka''s, because the producer gave none';

grant select on projector.defaults_by_shape to normalizer_writer, projector_reader;
