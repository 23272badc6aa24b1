-- The view finished_calls has the same rules on purpose. It says why, and which test compares them.
create or replace view projector.calls as
select hour, execution_id,
       (
           select projector.playbook_path(execution.playbook_ranked)
           from   projector.execution_facts as execution
           where  execution.execution_id = facts.execution_id
       ) as playbook,
       (
           select nullif(execution.playbook_ranked[4], '')
           from   projector.execution_facts as execution
           where  execution.execution_id = facts.execution_id
       ) as version,
       (
           select execution.parent_execution_id
           from   projector.execution_facts as execution
           where  execution.execution_id = facts.execution_id
       ) as parent_execution_id,
       step, command_id, iteration, attempts, status, begun_at, issued_at, claimed_at, started_at,
       finished_at,
       coalesce(reported_duration_us, projector.microseconds_between(started_at, finished_at))
           / 1000000::double precision as duration_s,
       projector.microseconds_between(issued_at, claimed_at) / 1000000::double precision as queue_s,
       projector.microseconds_between(previous_failure_at, begun_at) / 1000000::double precision
           as backoff_s,
       max_attempts,
       status in ('FAILED', 'ERROR', 'CANCELLED') and coalesce(attempts + 1 >= max_attempts, false)
           as exhausted,
       worker_id, error,
       case
           when status in ('FAILED', 'ERROR', 'CANCELLED')
           then coalesce(projector.classify_error(error), '')
       end as error_class,
       attribution
from   (
           select execution_id, attempts, iteration, begun_at, issued_at, claimed_at, started_at,
                  finished_at, previous_failure_at,
                  projector.to_hour(coalesce(finished_at, begun_at)) as hour,
                  command_id,
                  coalesce(projector.ranked_value(step_ranked), '') as step,
                  case
                      when finished_at is not null then projector.call_outcome(outcome_ranked)
                      when started_at is not null then 'RUNNING'
                      when claimed_at is not null then 'CLAIMED'
                      else 'PENDING'
                  end as status,
                  projector.ranked_value_as_bigint(duration_ranked) as reported_duration_us,
                  projector.call_error(error_ranked) as error,
                  projector.ranked_value(worker_ranked) as worker_id,
                  projector.ranked_value_as_bigint(max_attempts_ranked) as max_attempts,
                  projector.attempt_number_source(outcome_ranked, is_numbered, may_be_retried)
                      as attribution
           from   projector.call_facts
       ) as facts
where  step <> '__orchestrate__';

comment on view projector.calls is
    'How did each attempt of each command go? hour is the hour of its end, or of its begin while '
    'it runs. attempts 0 is the first attempt. If several events report the end of one attempt, '
    'the worst decides: FAILED or ERROR, then CANCELLED, then COMPLETED. For example, a call '
    'whose tool succeeds and whose command then fails is FAILED, with the error of its command '
    'and the duration of its tool. An error that a later call of the same command handles still '
    'counts as one. A call that waits for a callback is open only if its command.completed says '
    'pending_callback, as noetl/worker does from 5.93.0 on. Under an older worker it is COMPLETED '
    'from the handover until the callback reports. Calls of the step __orchestrate__ are left out.';
comment on column projector.calls.hour is 'the hour, UTC';
comment on column projector.calls.execution_id is 'id of the execution';
comment on column projector.calls.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.calls.version is
    'version of the playbook, if the event that begins it names it with the path';
comment on column projector.calls.parent_execution_id is 'the execution that started it';
comment on column projector.calls.step is 'name of the step, or empty if no event names one';
comment on column projector.calls.command_id is
    'id of the command, never null: calls_without_command counts events without one';
comment on column projector.calls.iteration is 'index in a loop, or null outside of loops';
comment on column projector.calls.attempts is 'number of attempts before this one: 0 is the first';
comment on column projector.calls.status is
    'COMPLETED, FAILED, ERROR or CANCELLED, and before that PENDING, CLAIMED or RUNNING';
comment on column projector.calls.begun_at is 'when the first event of the attempt happened';
comment on column projector.calls.issued_at is 'when the command was issued';
comment on column projector.calls.claimed_at is 'when a worker took it';
comment on column projector.calls.started_at is 'when the worker began';
comment on column projector.calls.finished_at is 'when it ended, or null while it runs';
comment on column projector.calls.duration_s is
    'seconds it took: as the first end of the call that says so reports, or else the first of its '
    'command, or else from started_at to finished_at';
comment on column projector.calls.queue_s is 'seconds from issued to claimed';
comment on column projector.calls.backoff_s is
    'seconds from the failure before this retry to its begin. Null for a first attempt';
comment on column projector.calls.max_attempts is 'number of attempts that are allowed in all';
comment on column projector.calls.exhausted is 'whether it failed and was the last allowed attempt';
comment on column projector.calls.worker_id is 'the worker';
comment on column projector.calls.error is
    'error text of the worst end that has one, at most 1,000 characters, or null if it completed';
comment on column projector.calls.error_class is
    'error text without quoted parts, e-mail addresses and ids, which are words with a digit or of '
    'eight or more letters from a to f, with codes such as HTTP 404 kept, or null if it did not '
    'fail';
comment on column projector.calls.attribution is
    'how the number of the attempt is known. declared: the end that decides names it (or, while it '
    'runs, any event). only: nothing hints at another attempt. inferred: from what else the events '
    'say';

grant select on projector.calls to normalizer_writer, projector_reader;
