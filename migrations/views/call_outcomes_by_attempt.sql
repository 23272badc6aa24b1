-- Returns a separate row for each counter shard, so queries have to sum the rows. If the view
-- summed them, a query that groups by fewer columns would sum again, and PostgreSQL would group the
-- rows of a long time range twice.
create or replace view projector.call_outcomes_by_attempt as
select hour, playbook, step, attempts, status, calls,
       case when status = 'COMPLETED' then calls else 0 end as succeeded,
       case when status <> 'COMPLETED' then calls else 0 end as failed,
       exhausted, inferred
from   projector.call_hours
where  calls <> 0 or exhausted <> 0 or inferred <> 0;

comment on view projector.call_outcomes_by_attempt is
    'How did calls end, by attempt? Each row counts attempts by the hour of their end. failed are '
    'FAILED, ERROR and CANCELLED. exhausted are those of them that were the last allowed attempt. '
    'inferred are those whose attribution in calls is inferred. Rates are sums divided by sums. '
    'Always sum rows, as in event_counts. For minutes, count calls by finished_at. Calls of the '
    'step __orchestrate__ are left out.';
comment on column projector.call_outcomes_by_attempt.hour is 'the hour, UTC';
comment on column projector.call_outcomes_by_attempt.playbook is
    'path of the playbook, or empty while it is not known';
comment on column projector.call_outcomes_by_attempt.step is
    'name of the step, or empty if no event names one';
comment on column projector.call_outcomes_by_attempt.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.call_outcomes_by_attempt.status is 'canonical status';
comment on column projector.call_outcomes_by_attempt.calls is
    'number of finished attempts (rows of projector.calls)';
comment on column projector.call_outcomes_by_attempt.succeeded is 'attempts that completed';
comment on column projector.call_outcomes_by_attempt.failed is
    'attempts that ended FAILED, ERROR or CANCELLED';
comment on column projector.call_outcomes_by_attempt.exhausted is
    'failed attempts that were the last allowed one';
comment on column projector.call_outcomes_by_attempt.inferred is
    'attempts whose attribution in calls is inferred';

grant select on projector.call_outcomes_by_attempt to normalizer_writer, projector_reader;
