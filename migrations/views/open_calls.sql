create or replace view projector.open_calls as
select facts.hour, facts.execution_id,
       projector.playbook_path(execution.playbook_ranked) as playbook,
       facts.step, facts.command_id, facts.iteration, facts.attempts, facts.begun_at,
       facts.worker_id, facts.waits_for, facts.since,
       extract(epoch from execution.as_of - least(facts.since, execution.as_of))::double precision
           as waiting_s
from   (
           select execution_id, attempts, iteration, begun_at,
                  projector.to_hour(begun_at) as hour, command_id,
                  coalesce(projector.ranked_value(step_ranked), '') as step,
                  projector.ranked_value(worker_ranked) as worker_id,
                  case
                      when started_at is not null then 'finish'
                      when claimed_at is not null then 'start'
                      else 'claim'
                  end as waits_for,
                  coalesce(started_at, claimed_at, issued_at, begun_at) as since
           from   projector.call_facts
           where  finished_at is null
       ) as facts
left join projector.executions_with_as_of as execution
       on execution.execution_id = facts.execution_id
where  facts.step <> '__orchestrate__';

comment on view projector.open_calls is
    'Which calls were issued and never claimed, claimed and never started, or started and never '
    'finished, and for how long? hour is the hour of their begin. Calls of the step '
    '__orchestrate__ are left out.';
comment on column projector.open_calls.hour is 'the hour, UTC';
comment on column projector.open_calls.execution_id is 'id of the execution';
comment on column projector.open_calls.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.open_calls.step is 'name of the step, or empty if no event names one';
comment on column projector.open_calls.command_id is
    'id of the command, never null: calls_without_command counts events without one';
comment on column projector.open_calls.iteration is 'index in a loop, or null outside of loops';
comment on column projector.open_calls.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.open_calls.begun_at is 'when the first event of the attempt happened';
comment on column projector.open_calls.worker_id is 'the worker';
comment on column projector.open_calls.waits_for is 'what it waits for: claim, start or finish';
comment on column projector.open_calls.since is 'when the wait began';
comment on column projector.open_calls.waiting_s is
    'seconds that it has waited, by as_of as in stuck_executions: 0 if that is before the begin, '
    'null while nobody reads its partition';

grant select on projector.open_calls to normalizer_writer, projector_reader;
