create or replace view projector.executions_without_end as
select facts.execution_id, projector.to_hour(facts.first_at) as hour,
       projector.playbook_path(facts.playbook_ranked) as playbook, tries.calls,
       tries.last_finished_at, facts.last_at,
       extract(epoch from facts.as_of - least(facts.last_at, facts.as_of))::double precision
           as silent_s
from   projector.executions_with_as_of as facts
cross join lateral (
    select count(*) as calls, max(finished_at) as last_finished_at,
           bool_and(finished_at is not null) as all_finished
    from   projector.call_facts
    where  call_facts.execution_id = facts.execution_id
    and    coalesce(projector.ranked_value(step_ranked), '') <> '__orchestrate__'
) as tries
left join projector.freshness as log
       on  log.topic = facts.last_event_ranked[4]
       and log.partition::text = facts.last_event_ranked[5]
where  facts.completed_at is null
and    facts.failed_at is null
and    facts.cancelled_at is null
and    tries.all_finished;

comment on view projector.executions_without_end is
    'Which executions have finished all their calls but did not end? hour is the hour of the '
    'first event. Calls of the step __orchestrate__ are left out.';
comment on column projector.executions_without_end.execution_id is 'id of the execution';
comment on column projector.executions_without_end.hour is 'the hour, UTC';
comment on column projector.executions_without_end.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.executions_without_end.calls is 'how many calls it made';
comment on column projector.executions_without_end.last_finished_at is
    'when the last of its calls ended';
comment on column projector.executions_without_end.last_at is 'time of its last event';
comment on column projector.executions_without_end.silent_s is
    'seconds since its last event, by as_of as in stuck_executions: 0 if that is before the event, '
    'null while nobody reads its partition';

grant select on projector.executions_without_end to normalizer_writer, projector_reader;
