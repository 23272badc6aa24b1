-- Returns each finished attempt with the values under which the roll-ups count it. Calls of the
-- engine's own step __orchestrate__ are left out, because the roll-ups don't count them.
--
-- The view calls has the same rules on purpose. It also shows attempts that still run, and null
-- where the keys of the roll-ups have an empty text. tests/property/test_projections.py compares
-- it, and the views of the roll-ups, with one computation in Python
-- (test_any_order_and_batching_and_any_hand_shows_what_the_log_holds).
create or replace view projector.finished_calls as
select execution_id, command_id, attempts, step, begun_at, finished_at, status, worker_id, error,
       coalesce(reported_duration_us, projector.microseconds_between(started_at, finished_at))
           as duration_us,
       projector.microseconds_between(issued_at, claimed_at) as queue_us,
       projector.microseconds_between(previous_failure_at, begun_at) as backoff_us,
       coalesce(status <> 'COMPLETED' and attempts + 1 >= max_attempts, false) as exhausted,
       attribution = 'inferred' as inferred
from   (
           -- Use a subquery here instead of a CTE. PostgreSQL doesn't merge a query that has a CTE
           -- into the query that reads it, so a condition on the key couldn't use an index.
           select execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
                  finished_at, previous_failure_at,
                  coalesce(projector.ranked_value(step_ranked), '') as step,
                  coalesce(projector.call_outcome(outcome_ranked), '') as status,
                  projector.ranked_value_as_bigint(duration_ranked) as reported_duration_us,
                  projector.call_error(error_ranked) as error,
                  coalesce(projector.ranked_value(worker_ranked), '') as worker_id,
                  projector.ranked_value_as_bigint(max_attempts_ranked) as max_attempts,
                  projector.attempt_number_source(outcome_ranked, is_numbered, may_be_retried)
                      as attribution
           from   projector.call_facts
       ) as reported
where  finished_at is not null
and    step <> '__orchestrate__';

comment on view projector.finished_calls is
    'Private: under which keys and with which values do counters count each attempt? Read '
    'projector.calls instead, because nobody is granted this view and it may change.';
comment on column projector.finished_calls.execution_id is 'id of the execution';
comment on column projector.finished_calls.command_id is 'id of the command';
comment on column projector.finished_calls.attempts is
    'number of attempts before this one: 0 is the first';
comment on column projector.finished_calls.step is
    'name of the step, or empty if no event names one';
comment on column projector.finished_calls.begun_at is
    'when the first event of the attempt happened';
comment on column projector.finished_calls.finished_at is 'when it ended';
comment on column projector.finished_calls.status is 'canonical status';
comment on column projector.finished_calls.worker_id is 'the worker';
comment on column projector.finished_calls.error is
    'error text, at most 1,000 characters, or null if it completed';
comment on column projector.finished_calls.exhausted is
    'whether it failed and was the last allowed attempt';
comment on column projector.finished_calls.inferred is 'whether attribution in calls is inferred';
