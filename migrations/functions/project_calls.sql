-- Updates call_facts and the roll-ups of calls after a statement has written events. `before` and
-- `after` are the rows of these events before and after the statement. On an INSERT,
-- `before` is the table projector.before, which is always empty. So is `after` on a DELETE.
--
-- For example, one statement inserts these events of the command 7:a:1:
--     event_type     | created_at | status  | worker_id
--     command.issued | 09:00:00   | PENDING |
--     call.error     | 09:00:05   | FAILED  | w1
-- Step 1 reduces them to one entry of `changes`:
--     command_id | issued_at | outcome_ranked     | worker_ranked          | must_rebuild
--     7:a:1      | 09:00:00  | FAILED at 09:00:05 | w1, said at 09:00:05   | false
-- That becomes attempt 0 of the command in call_facts, and adds 1 to the failed calls of that hour.
-- The view finished_calls (views/finished_calls.sql) says which attempts the roll-ups count.
-- If another statement inserts a second command.issued later, step 2 sees that the stored issued_at
-- differs. So step 3 rebuilds the command from all three events, which makes two attempts, and step
-- 5 subtracts the failed call and adds it again. It stays attempt 0, so its counts cancel out.
--     1. reduce what the rows say to one entry of `changes` for each command
--     2. read the stored attempts of these commands, decide which commands to rebuild, and note
--        what the roll-ups must subtract for the attempts as they were
--     3. write the attempts: rebuild those commands, and merge the changes of the others
--     4. correct which failure came before each retry
--     5. update the roll-ups: subtract the attempts as they were, and add them as they are now.
--        add_call_counts writes call_hours, call_times, worker_hours, error_hours, and
--        retry_minutes.
-- Only step 1 reads the rows. The other steps read `changes`. 0007_create_calls.sql has the types.
-- A value whose name ends in _ranked begins with its rank, and the least wins (end_rank).
--
-- Writing attempts never waits for a lock, so their order can't cause a deadlock. The trigger
-- project_1_executions runs first (0008_create_triggers.sql) and locks every execution of these
-- events (merge_executions), and no other transaction writes the attempts of a locked execution. If
-- two transactions report on one execution at the same time, the second waits there. The service
-- writes in READ COMMITTED, so the second's next queries see what the first committed. In
-- REPEATABLE READ, the second would fail instead. The rows of the roll-ups need no order either,
-- because each transaction writes to its own shard (take_shard). A TRUNCATE doesn't run this
-- function, but project_truncate.
--
-- Three habits recur below. `offset 0` keeps the planner from merging a subquery into the query
-- around it. `collate "C"` compares bytes, as the keys of the tables do. In the functions,
-- `#variable_conflict use_column` reads a name as the column if a result has the same name.

-- It's `security definer`, because a role that writes events has no right to the projections.
--
-- A session keeps the plans that it made for its first batch (`force_generic_plan`), since planning
-- costs more than a small batch. The tables may have been empty then. For empty tables, the planner
-- would choose sequential scans and hash joins, which later read whole tables for each batch. So
-- such plans are turned off here and in project_executions. The functions that these two call
-- inherit the settings, unless they set others.
create or replace function projector.project_calls() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    role_by_type         jsonb;
    outcome_by_type      jsonb;
    -- Each of these arrays may be null, because array_agg returns null for no rows. That means the
    -- same as an empty array, also to unnest and `||`. No element is null.
    changes              call_change[];
    to_rebuild           call_command[];
    old_finished         call_id[];
    old_failures         call_failure[];
    old_counts           call_delta[];
    to_recount           call_id[];
    retries_and_failures call_id[];
    relinked             call_id[];
    counts               call_delta[];
    written              record;  -- the results of rebuild_calls or merge_first_attempts
begin
    if current_setting('projector.off', true) = 'on' then
        return null;  -- another trigger has noted the executions as divergent (project_divergences)
    end if;
    if tg_op = 'DELETE' and current_setting('projector.archiving', true) = 'on' then
        -- delete_executions deletes all events of its executions, and project_1_executions has just
        -- deleted these with their calls, and moved their counts to shard -1. No execution remains,
        -- because retention and forget call it only for executions whose facts count exactly the
        -- events that they have locked. If one remained, e.g. after a call by hand, then its calls
        -- would keep their rows and counts, and `projector verify` would report the rows.
        return null;
    end if;

    -- 1. Reduce what the rows say to one entry for each command. The kinds of events are read once
    -- into two values, because a look-up in these is cheaper than a join for each row.
    select jsonb_object(array_agg(event_type), array_agg(role)),
           jsonb_object(array_agg(event_type), array_agg(outcome))
    into   role_by_type, outcome_by_type
    from   event_kinds
    where  subject = 'call';
    -- The rows of events that name a command. The statement has changed or deleted the old rows.
    -- What such a row said may be the least value that the attempt stores. Then another event has
    -- the least value now, and only reading all events of the command can tell which. So each old
    -- row forces a rebuild. So does a new row that declares that it's of a retry, because a merge
    -- writes only the first attempt.
    with row_of_call as (
        select true as must_rebuild, execution_id, command_id, event_type, step, status, created_at,
               evidence, worker_id, max_attempts, iteration, duration, error, context, result
        from   before
        where  command_id <> ''
        union all
        select evidence_rank(evidence, 'attempts') > 0 and attempts > 0, execution_id, command_id,
               event_type, step, status, created_at, evidence, worker_id, max_attempts, iteration,
               duration, error, context, result
        from   after
        where  command_id <> ''
    ),
    -- The role is null if the event isn't about a call. `offset 0` makes PostgreSQL look up the
    -- role once, although call_facts_from_event reads it often.
    event as (
        select *, role_by_type ->> event_type as role
        from   row_of_call
        offset 0
    ),
    reported_event as (
        select event.must_rebuild, event.execution_id, event.command_id collate "C" as command_id,
               event.created_at, event.iteration, event.role, event.evidence, report.*
        from   event
        cross join lateral call_facts_from_event(
            event.role, outcome_by_type ->> event.event_type, event.status, event.created_at,
            event.evidence, event.step, event.worker_id, event.max_attempts, event.duration,
            event.error, event.context, event.result
        ) as report
        where  event.role is not null
    ),
    -- The least of each value wins. The least doesn't depend on the order in which the events
    -- arrive, nor on how often each is counted. So it can be taken over the new events here, and
    -- then over the result and the stored attempt (merge_first_attempts), and it's the same as over
    -- all stored events at once (derive_calls). These three functions have the rule, each for its
    -- own input: only this one can read `after`, so a shared function would need a copy of every
    -- event in an array. A test checks that the three agree (tests/rules/test_migrations.py,
    -- test_an_attempt_is_the_least_of_its_values_in_each_of_the_three_places). Another one there
    -- checks that `change` has the columns of call_change, to which it's cast.
    change as (
        select   execution_id, command_id,
                 min(created_at) as begun_at,
                 min(created_at) filter (where role = 'issued') as issued_at,
                 min(created_at) filter (where role = 'claimed') as claimed_at,
                 min(created_at) filter (where role = 'started') as started_at,
                 min(outcome_ranked collate "C") as outcome_ranked,
                 min(duration_ranked collate "C") as duration_ranked,
                 min(error_ranked collate "C") as error_ranked,
                 min(step_ranked collate "C") as step_ranked,
                 min(worker_ranked collate "C") as worker_ranked,
                 min(max_attempts_ranked collate "C") as max_attempts_ranked,
                 min(iteration) as iteration,
                 bool_or(evidence_rank(evidence, 'attempts') > 0) as is_numbered,
                 -- Two issues, claims, or starts hint at a second attempt. There are two of one
                 -- kind if there are more events of these three kinds than there are kinds.
                 bool_or(must_rebuild)
                 or count(*) filter (where role in ('issued', 'claimed', 'started'))
                    > num_nonnulls(
                          min(created_at) filter (where role = 'issued'),
                          min(created_at) filter (where role = 'claimed'),
                          min(created_at) filter (where role = 'started')
                      ) as must_rebuild
        from     reported_event
        group by execution_id, command_id
    )
    select array_agg(change::call_change)
    into   changes
    from   change;
    if changes is null then
        return null;
    end if;

    -- 2. Read the stored attempts of these commands. A command must be rebuilt if its change says
    -- so, if it may have a retry, or if its issue, claim, or start is stored with another time.
    -- `distinct` lists it once, even if it has several attempts.
    --
    -- `old_finished` lists only finished attempts, because the roll-ups count no others.
    -- `old_failures` lists every failure, because a retry may refer to it even if it isn't counted.
    -- A cancelled attempt is a failure too (call_failed).
    -- `offset 0` makes PostgreSQL look up the attempts by their key. Without it, the query might
    -- search all retries of the execution.
    select array_agg(distinct (change.execution_id, change.command_id)::call_command)
               filter (
                   where change.must_rebuild or stored.may_be_retried
                   or change.issued_at <> stored.issued_at
                   or change.claimed_at <> stored.claimed_at
                   or change.started_at <> stored.started_at
               ),
           array_agg((stored.execution_id, stored.command_id, stored.attempts)::call_id)
               filter (where stored.finished_at is not null),
           array_agg(
               (
                   stored.execution_id, stored.command_id, stored.attempts,
                   ranked_value(stored.step_ranked), coalesce(stored.iteration, -1),
                   stored.finished_at
               )::call_failure
           ) filter (where call_failed(stored.outcome_ranked))
    into   to_rebuild, old_finished, old_failures
    from   unnest(changes) as change
    left join lateral (
        select *
        from   call_facts
        where  call_facts.execution_id = change.execution_id
        and    call_facts.command_id = change.command_id
        offset 0
    ) as stored on true;
    -- call_deltas reads the stored attempts, so call it before step 3 changes them.
    if old_finished is not null then
        old_counts := array(select counted from call_deltas(-1, old_finished) as counted);
    end if;

    -- 3. Write the attempts: rebuild some commands, and merge the changes of the others, if there
    -- are any. Both functions return the attempts to recount (step 5), and which of these are
    -- retries or failures now (step 4).
    if to_rebuild is not null then
        written := rebuild_calls(to_rebuild);
        to_recount := written.to_recount;
        retries_and_failures := written.retries_and_failures;
    end if;
    if cardinality(changes) > coalesce(cardinality(to_rebuild), 0) then
        written := merge_first_attempts(changes, to_rebuild);
        to_recount := to_recount || written.to_recount;
        retries_and_failures := retries_and_failures || written.retries_and_failures;
    end if;

    -- 4. The failure before each retry. A retry of another command may be affected too, if its step
    -- sends each attempt as a command of its own. The roll-ups must subtract it as it was.
    if retries_and_failures is not null or old_failures is not null then
        select retry.relinked, old_counts || retry.was_counted
        into   relinked, old_counts
        from   relink_retries(retries_and_failures, old_failures, to_recount) as retry;
    end if;

    -- 5. The roll-ups. `distinct` counts a retry once that step 3 has written and step 4 corrected.
    counts := old_counts || array(
        select counted
        from   call_deltas(
                   1, array(select distinct id from unnest(to_recount || relinked) as id)
               ) as counted
    );
    if cardinality(counts) > 0 then
        perform add_call_counts(counts);
    end if;
    return null;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.project_calls() from public;
