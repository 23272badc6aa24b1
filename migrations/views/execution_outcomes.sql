create or replace view projector.execution_outcomes as
select hour, playbook, outcome, executions
from   projector.execution_hours
where  executions <> 0;

comment on view projector.execution_outcomes is
    'How many executions began, and how many ended in which status, over time? BEGUN is counted in '
    'the hour of the begin, the others in the hour of the end. Always sum rows, as in '
    'event_counts. For minutes, count executions by begun_at and ended_at.';
comment on column projector.execution_outcomes.hour is 'the hour, UTC';
comment on column projector.execution_outcomes.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.execution_outcomes.outcome is
    'BEGUN, or how they ended: COMPLETED, FAILED or CANCELLED';
comment on column projector.execution_outcomes.executions is 'executions';

grant select on projector.execution_outcomes to normalizer_writer, projector_reader;
