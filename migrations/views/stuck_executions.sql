create or replace view projector.stuck_executions as
select facts.execution_id, facts.begin_at is not null as begun,
       case
           when facts.as_of - facts.last_at < interval '1 hour' then 'under 1 h'
           when facts.as_of - facts.last_at < interval '24 hours' then 'under 1 day'
           when facts.as_of - facts.last_at < interval '168 hours' then 'under 7 days'
           else '7 days and more'
       end as silent_for,
       projector.to_hour(facts.first_at) as hour,
       projector.playbook_path(facts.playbook_ranked) as playbook, facts.first_at, facts.last_at,
       extract(epoch from facts.as_of - facts.first_at)::double precision as age_s,
       extract(epoch from facts.as_of - facts.last_at)::double precision as silent_s,
       facts.last_event_ranked[2] as last_event_type, facts.last_event_ranked[3] as last_step,
       facts.events, facts.highest_attempts
from   projector.executions_with_as_of as facts
where  facts.completed_at is null
and    facts.failed_at is null
and    facts.cancelled_at is null
and    facts.last_at < facts.as_of - interval '5 minutes'
and    (
           -- The union drops repeated rows, so executions that are each other's parents end it.
           not exists (
               with recursive below (execution_id) as (
                   select execution_id
                   from   projector.execution_facts as child
                   where  child.parent_execution_id = facts.execution_id
                   and    child.completed_at is null
                   and    child.failed_at is null
                   and    child.cancelled_at is null
                   union
                   select child.execution_id
                   from   below
                   join   projector.execution_facts as child
                          on child.parent_execution_id = below.execution_id
                   where  child.completed_at is null
                   and    child.failed_at is null
                   and    child.cancelled_at is null
               )
               select
               from   below
               join   projector.executions_with_as_of as timed using (execution_id)
               where  (timed.last_at < timed.as_of - interval '5 minutes') is not true
           )
           or exists (
               select
               from   projector.open_calls as call
               where  call.execution_id = facts.execution_id and call.waits_for = 'claim'
           )
       );

comment on view projector.stuck_executions is
    'Which executions have not ended and are silent, since when, and what was their last event? An '
    'execution is silent if it has had no event for at least 5 minutes. That is measured up to the '
    'as_of of the partition of its last event, so while nobody reads that partition, none of its '
    'executions becomes stuck. If a backfill took the last event from a file or a table, the '
    'newest as_of of any Kafka partition is used. An execution that waits for a running child is '
    'left out, unless the child is silent too or no worker has claimed one of its calls. A silent '
    'child counts as running while it waits for a child of its own. begun is false if no event '
    'that begins the execution was ever read. hour is the hour of the first event.';
comment on column projector.stuck_executions.execution_id is 'id of the execution';
comment on column projector.stuck_executions.begun is 'whether an event that begins it was read';
comment on column projector.stuck_executions.silent_for is
    'silent_s in groups: under 1 h, under 1 day, under 7 days, 7 days and more';
comment on column projector.stuck_executions.hour is 'the hour, UTC';
comment on column projector.stuck_executions.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.stuck_executions.first_at is 'time of its first event';
comment on column projector.stuck_executions.last_at is 'time of its last event';
comment on column projector.stuck_executions.age_s is 'seconds since its first event';
comment on column projector.stuck_executions.silent_s is 'seconds since its last event';
comment on column projector.stuck_executions.last_event_type is 'type of its last event';
comment on column projector.stuck_executions.last_step is 'step of its last event';
comment on column projector.stuck_executions.events is 'events';
comment on column projector.stuck_executions.highest_attempts is 'highest attempts of its events';

grant select on projector.stuck_executions to normalizer_writer, projector_reader;
