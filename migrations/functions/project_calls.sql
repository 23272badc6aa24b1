-- Updates call_facts and the roll-ups of calls after a statement has written events. `before` and
-- `after` are the rows before and after the statement:
--     1. derive from each row what it says about its command, and combine that into one entry of
--        `changes` for each command
--     2. read the stored attempts of these commands, and decide which commands to rebuild
--     3. write the attempts
--     4. correct which failure came before each retry, and add the differences to the roll-ups
-- Only step 1 reads the rows. The other steps read `changes`.
--
-- A session keeps the plans that it made for its first batch, when the tables may have been empty.
-- For empty tables, the planner would choose sequential scans and hash joins, which later read
-- whole tables for each batch. So such plans are turned off here and in project_executions.
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
    roles        jsonb;
    outcomes     jsonb;
    changes      call_change[];
    to_rebuild   call_command[];
    counts       call_count[];
    old_failures call_failure[];
    was_counted  call_id[];
    to_recount   call_id[];
    to_relink    call_id[];
    remaining    bigint[];
begin
    if current_setting('projector.off', true) = 'on' then
        return null;
    end if;
    if tg_op = 'DELETE' and current_setting('projector.archiving', true) = 'on' then
        -- Retention deletes an execution together with its calls, so nothing is left to update.
        remaining := array(
            select execution_id
            from   (select distinct execution_id from before) as archived
            join   execution_facts using (execution_id)
        );
        if cardinality(remaining) = 0 then
            return null;
        end if;
    end if;

    -- 1. Reduce what the rows say to one entry for each command.
    select jsonb_object_agg(event_type, role), jsonb_object_agg(event_type, outcome)
    into   roles, outcomes
    from   event_kinds
    where  subject = 'call';
    with event as (
        select true as must_rebuild, execution_id, command_id, event_type, step, status, created_at,
               evidence, worker_id, max_attempts, iteration, duration, error, context, result
        from   before
        where  roles ? event_type
        and    command_id <> ''
        and    (remaining is null or execution_id = any(remaining))
        union all
        select evidence_rank(evidence, 'attempts') > 0 and attempts > 0, execution_id, command_id,
               event_type, step, status, created_at, evidence, worker_id, max_attempts, iteration,
               duration, error, context, result
        from   after
        where  roles ? event_type
        and    command_id <> ''
    ),
    reported as (
        select named.must_rebuild, named.execution_id, named.command_id collate "C" as command_id,
               named.created_at, named.iteration, named.role, named.evidence, said.*
        from   (
                   select *, roles ->> event_type as role, outcomes ->> event_type as type_outcome
                   from   event
                   offset 0
               ) as named
        cross join lateral report_on_call(
            named.role, named.type_outcome, named.status, named.created_at, named.evidence,
            named.step, named.worker_id, named.max_attempts, named.duration, named.error,
            named.context, named.result
        ) as said
    ),
    change as (
        select   execution_id, command_id, min(created_at) as begun_at,
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
                 -- Two issues, claims, or starts hint at a second attempt.
                 bool_or(must_rebuild)
                 or count(*) filter (where role in ('issued', 'claimed', 'started'))
                    > num_nonnulls(
                          min(created_at) filter (where role = 'issued'),
                          min(created_at) filter (where role = 'claimed'),
                          min(created_at) filter (where role = 'started')
                      ) as must_rebuild
        from     reported
        group by execution_id, command_id
    )
    select array_agg(change::call_change)
    into   changes
    from   change;
    if coalesce(cardinality(changes), 0) = 0 then
        return null;
    end if;

    --     2. Read the stored attempts of these commands. A command must be rebuilt if
    --        `must_rebuild` is set, if it may have a retry, or if its issue, claim, or start is
    --        stored with another time. New events of other commands can simply be merged.
    --
    -- `was_counted` lists only finished attempts, because the roll-ups count no others.
    -- `old_failures` lists every failure, because a retry may refer to it even if it isn't counted.
    -- `offset 0` makes PostgreSQL look up the attempts by their key. Without it, the query might
    -- search all retries of the execution.
    select array_agg(distinct (reported.execution_id, reported.command_id)::call_command)
               filter (
                   where reported.must_rebuild or known.may_be_retried
                   or reported.issued_at <> known.issued_at
                   or reported.claimed_at <> known.claimed_at
                   or reported.started_at <> known.started_at
               ),
           array_agg((known.execution_id, known.command_id, known.attempts)::call_id)
               filter (where known.finished_at is not null),
           array_agg(
               (
                   known.execution_id, known.command_id, known.attempts,
                   ranked_value(known.step_ranked), coalesce(known.iteration, -1), known.finished_at
               )::call_failure
           ) filter (where call_failed(known.outcome_ranked))
    into   to_rebuild, was_counted, old_failures
    from   unnest(changes) as reported
    left join lateral (
        select *
        from   call_facts
        where  call_facts.execution_id = reported.execution_id
        and    call_facts.command_id = reported.command_id
        offset 0
    ) as known on true;
    if was_counted is not null then
        counts := array(select counted from call_counts(-1, was_counted) as counted);
    end if;

    -- 3. The new attempts: rebuilt from all events, or merged with the new ones.
    if to_rebuild is not null then
        select aggregated.to_recount, aggregated.to_relink
        into   to_recount, to_relink
        from   rebuild_calls(to_rebuild) as aggregated;
    end if;
    if cardinality(changes) > coalesce(cardinality(to_rebuild), 0) then
        select to_recount || merged.ended, to_relink || merged.failed
        into   to_recount, to_relink
        from   merge_calls(changes, to_rebuild) as merged;
    end if;

    -- 4. The failure before each retry, and the roll-ups.
    perform count_changed_calls(counts, to_recount, to_relink, old_failures);
    return null;
end
$$;

revoke execute on function projector.project_calls() from public;
