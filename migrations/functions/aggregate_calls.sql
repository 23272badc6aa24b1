-- The attempts of these commands, from their stored events. Each attempt keeps the least of each
-- ranked value. project_calls does the same with new events.
create or replace function projector.aggregate_calls(commands projector.call_command[])
    returns table (
        execution_id bigint, command_id text, attempts integer, begun_at timestamptz,
        issued_at timestamptz, claimed_at timestamptz, started_at timestamptz, outcome_ranked text,
        duration_ranked text, error_ranked text, step_ranked text, worker_ranked text,
        max_attempts_ranked text, iteration integer, is_numbered boolean, may_be_retried boolean
    )
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        select   execution_id, command_id collate "C", attempts, min(created_at),
                 min(created_at) filter (where role = 'issued'),
                 min(created_at) filter (where role = 'claimed'),
                 min(created_at) filter (where role = 'started'),
                 min(outcome_ranked collate "C"), min(duration_ranked collate "C"),
                 min(error_ranked collate "C"), min(step_ranked collate "C"),
                 min(worker_ranked collate "C"), min(max_attempts_ranked collate "C"),
                 min(iteration), bool_or(number is not null), bool_or(may_be_retried)
        from     call_events_by_attempt(aggregate_calls.commands)
        group by execution_id, command_id collate "C", attempts;
end
$$;
