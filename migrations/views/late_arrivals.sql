create or replace view projector.late_arrivals as
select   hour, shape, worker_id,
         (
             array['unknown', 'clock ahead', 'under 1 s', 'under 10 s', 'under 1 min',
                   'under 10 min', 'under 1 h', 'under 1 day', 'over 1 day']
         )[lateness + 1] as lateness,
         lateness in (0, 2) as on_time, sum(events)::bigint as events,
         sum(skew_us)::double precision / 1000000 as skew_s
from     projector.arrival_hours
group by hour, shape, worker_id, lateness
having   sum(events) <> 0;

comment on view projector.late_arrivals is
    'How long after they happened do events reach Kafka, and whose clock is wrong? Counted by the '
    'hour of their arrival. clock ahead means that the producer''s time is more than a second '
    'after Kafka''s. If a clock is behind, all events of that worker look late. The mean time is '
    'sum(skew_s) / sum(events) of the rows whose lateness is known. It is below 0 if the clock is '
    'ahead.';
comment on column projector.late_arrivals.hour is 'the hour, UTC';
comment on column projector.late_arrivals.shape is 'wire shape of the record';
comment on column projector.late_arrivals.worker_id is
    'the worker, or empty if the event names none';
comment on column projector.late_arrivals.lateness is
    'how long after it happened Kafka received it';
comment on column projector.late_arrivals.on_time is 'under a second, or not known';
comment on column projector.late_arrivals.events is 'events';
comment on column projector.late_arrivals.skew_s is
    'seconds from created_at to recorded_at, added up. It is below 0 if the clock is ahead. An '
    'event on time counts as 0';

grant select on projector.late_arrivals to normalizer_writer, projector_reader;
