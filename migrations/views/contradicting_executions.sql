create or replace view projector.contradicting_executions as
select hour, execution_id, playbook, status, ended_at, completed_at, failed_at, cancelled_at,
       active_at as last_activity_at, contradicting, active_after_end
from   (
           select projector.to_hour(least(completed_at, failed_at, cancelled_at)) as hour,
                  execution_id, projector.playbook_path(playbook_ranked) as playbook,
                  projector.first_outcome(completed_at, failed_at, cancelled_at) as status,
                  least(completed_at, failed_at, cancelled_at) as ended_at,
                  completed_at, failed_at, cancelled_at, active_at,
                  (completed > 0)::integer + (failed > 0)::integer + (cancelled > 0)::integer > 1
                      as contradicting,
                  coalesce(active_at > least(completed_at, failed_at, cancelled_at), false)
                      as active_after_end
           from   projector.execution_facts
       ) as facts
where  contradicting or active_after_end;

comment on view projector.contradicting_executions is
    'Which executions ended in two ways, or continued after their end? hour is the hour of the '
    'end. A command.completed after the end is normal and does not count.';
comment on column projector.contradicting_executions.hour is 'the hour, UTC';
comment on column projector.contradicting_executions.execution_id is 'id of the execution';
comment on column projector.contradicting_executions.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.contradicting_executions.status is 'canonical status';
comment on column projector.contradicting_executions.ended_at is
    'the earliest lifecycle end, or null while it runs';
comment on column projector.contradicting_executions.completed_at is
    'the first event that ends it as COMPLETED';
comment on column projector.contradicting_executions.failed_at is
    'the first event that ends it as FAILED';
comment on column projector.contradicting_executions.cancelled_at is
    'the first event that ends it as CANCELLED';
comment on column projector.contradicting_executions.last_activity_at is
    'the last event that is neither an end nor the report of one';
comment on column projector.contradicting_executions.contradicting is 'whether its ends disagree';
comment on column projector.contradicting_executions.active_after_end is
    'whether anything but a report of the end is later than ended_at';

grant select on projector.contradicting_executions to normalizer_writer, projector_reader;
