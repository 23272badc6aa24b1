create or replace view projector.event_counts as
select hour, step, event_type, status, attempts, events, attempts_defaulted
from   projector.event_hours
where  events <> 0 or attempts_defaulted <> 0;

comment on view projector.event_counts is
    'How many events of each step and type ended in which status at which attempt, by hour? A '
    'count is divided over several rows with the same keys, and a row may be negative, so always '
    'sum them. attempts and attempts_defaulted are as in attempts_by_status. Events of the step '
    '__orchestrate__, which are calls of the engine itself, are included. Add step <> '
    '''__orchestrate__'' to leave them out, as views of calls do.';
comment on column projector.event_counts.hour is 'the hour, UTC';
comment on column projector.event_counts.step is 'name of the step, or empty if no event names one';
comment on column projector.event_counts.event_type is 'type in the producer''s spelling';
comment on column projector.event_counts.status is 'canonical status';
comment on column projector.event_counts.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.event_counts.events is 'events';
comment on column projector.event_counts.attempts_defaulted is
    'events that do not say which attempt they are of: they count as attempts 0';

grant select on projector.event_counts to normalizer_writer, projector_reader;
