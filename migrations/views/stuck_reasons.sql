-- Returns what each stuck execution is waiting for. If several of its calls are open, the row names
-- the one that has waited longest.
create or replace view projector.stuck_reasons as
select stuck.execution_id, projector.to_hour(stuck.last_at) as hour, stuck.silent_s,
       coalesce(waiting.waits_for, 'next') as waits_for,
       coalesce(waiting.step, stuck.last_step) as step, waiting.command_id, waiting.attempts,
       waiting.worker_id, coalesce(waiting.open_calls, 0) as open_calls, stuck.begun,
       stuck.playbook
from   projector.stuck_executions as stuck
left join lateral (
    select   waits_for, step, command_id, attempts, worker_id, count(*) over () as open_calls
    from     projector.open_calls
    where    open_calls.execution_id = stuck.execution_id
    order by since, command_id, attempts
    limit    1
) as waiting on true;

comment on view projector.stuck_reasons is
    'What does a stuck execution wait for? Filter by execution_id. stuck_executions says which '
    'executions are stuck.';
comment on column projector.stuck_reasons.execution_id is 'execution';
comment on column projector.stuck_reasons.hour is 'the hour of its last event';
comment on column projector.stuck_reasons.silent_s is 'seconds since its last event';
comment on column projector.stuck_reasons.waits_for is
    'what its open call waits for: claim, start or finish, or next if no call is open, so that it '
    'waits for its next command or its end';
comment on column projector.stuck_reasons.step is
    'step of that call, or of the last event if no call is open';
comment on column projector.stuck_reasons.command_id is
    'command of that call, or null if no call is open';
comment on column projector.stuck_reasons.attempts is
    'attempt of that call, or null if no call is open';
comment on column projector.stuck_reasons.worker_id is
    'worker of that call, or null if none has claimed it';
comment on column projector.stuck_reasons.open_calls is 'number of its open calls';
comment on column projector.stuck_reasons.begun is 'whether an event that begins it was read';
comment on column projector.stuck_reasons.playbook is
    'path of the playbook, or empty while it is not known';

grant select on projector.stuck_reasons to normalizer_writer, projector_reader;
