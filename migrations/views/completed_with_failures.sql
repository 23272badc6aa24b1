create or replace view projector.completed_with_failures as
select projector.to_hour(least(facts.completed_at, facts.failed_at, facts.cancelled_at)) as hour,
       facts.execution_id, projector.playbook_path(facts.playbook_ranked) as playbook,
       least(facts.completed_at, facts.failed_at, facts.cancelled_at) as ended_at,
       failures.failed_calls, failures.last_failed_at
from   projector.execution_facts as facts
cross join lateral (
    select count(*) as failed_calls, max(finished_at) as last_failed_at
    from   projector.call_facts as failure
    where  failure.execution_id = facts.execution_id
    and    projector.call_failed(failure.outcome_ranked)
    and    coalesce(projector.ranked_value(failure.step_ranked), '') <> '__orchestrate__'
) as failures
where  projector.first_outcome(facts.completed_at, facts.failed_at, facts.cancelled_at)
       = 'COMPLETED'
and    failures.failed_calls > 0;

comment on view projector.completed_with_failures is
    'Which executions completed although one of their calls failed? A failure counts even if a '
    'retry succeeded. hour is the hour of the end. Calls of the step __orchestrate__ are left '
    'out.';
comment on column projector.completed_with_failures.hour is 'the hour, UTC';
comment on column projector.completed_with_failures.execution_id is 'id of the execution';
comment on column projector.completed_with_failures.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.completed_with_failures.ended_at is
    'the earliest lifecycle end, or null while it runs';
comment on column projector.completed_with_failures.failed_calls is
    'its attempts that ended FAILED, ERROR or CANCELLED';
comment on column projector.completed_with_failures.last_failed_at is
    'when the last of them failed';

grant select on projector.completed_with_failures to normalizer_writer, projector_reader;
