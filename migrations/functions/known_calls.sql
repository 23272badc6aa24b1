-- Step 2 of project_calls: reads the stored attempts of these commands. `to_rebuild` are the
-- commands whose attempts can't just be merged with the new events: `must_rebuild` says so, they may
-- have a retry, or their issue, claim, or start came at another time. `counted` are the attempts that
-- roll-ups count, and `failures` those that failed, also uncounted ones, because a retry refers to
-- the failure before it. `offset 0` makes PostgreSQL find the attempts by their key, and not among
-- all retries of the execution.
create or replace function projector.known_calls(
    changes projector.call_change[],
    out to_rebuild projector.call_command[], out counted projector.call_id[],
    out failures projector.call_failure[]
)
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
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
    into   to_rebuild, counted, failures
    from   unnest(known_calls.changes) as reported
    left join lateral (
        select *
        from   call_facts
        where  call_facts.execution_id = reported.execution_id
        and    call_facts.command_id = reported.command_id
        offset 0
    ) as known on true;
end
$$;
