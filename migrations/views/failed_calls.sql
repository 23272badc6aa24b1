create or replace view projector.failed_calls as
select projector.to_hour(finished_at) as hour, finished_at,
       projector.classify_error(coalesce(projector.call_error(error_ranked), '')) as error_class,
       projector.call_error(error_ranked) as error, execution_id,
       (
           select projector.playbook_path(execution.playbook_ranked)
           from   projector.execution_facts as execution
           where  execution.execution_id = call_facts.execution_id
       ) as playbook,
       coalesce(projector.ranked_value(step_ranked), '') as step, command_id, attempts,
       projector.call_outcome(outcome_ranked) as status,
       projector.ranked_value(worker_ranked) as worker_id
from   projector.call_facts
where  finished_at is not null
and    projector.call_failed(outcome_ranked)
and    coalesce(projector.ranked_value(step_ranked), '') <> '__orchestrate__';

comment on view projector.failed_calls is
    'Which calls failed with one error? Put the error on error_class and your time range on '
    'finished_at, because both reach one index. calls has every call. Calls of the step '
    '__orchestrate__ are left out.';
comment on column projector.failed_calls.hour is 'the hour, UTC';
comment on column projector.failed_calls.finished_at is 'when it ended';
comment on column projector.failed_calls.error_class is
    'error text without quoted parts, e-mail addresses and ids, which are words with a digit or of '
    'eight or more letters from a to f, with codes such as HTTP 404 kept, or empty without an '
    'error text';
comment on column projector.failed_calls.error is
    'error text, at most 1,000 characters, or null if no event has one';
comment on column projector.failed_calls.execution_id is 'id of the execution';
comment on column projector.failed_calls.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.failed_calls.step is 'name of the step, or empty if no event names one';
comment on column projector.failed_calls.command_id is
    'id of the command, never null: calls_without_command counts events without one';
comment on column projector.failed_calls.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.failed_calls.status is 'FAILED, ERROR or CANCELLED';
comment on column projector.failed_calls.worker_id is 'the worker';

grant select on projector.failed_calls to normalizer_writer, projector_reader;
