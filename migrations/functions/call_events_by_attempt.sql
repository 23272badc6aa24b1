-- The events of these commands, each with the attempt that it is of. `may_be_retried`: whether
-- anything hints at a second attempt of the command, which is a number, or two issues, claims, or
-- starts. This and other functions that every batch calls are plpgsql, because an SQL function would
-- be planned each time.
create or replace function projector.call_events_by_attempt(commands projector.call_command[])
    returns table (
        event_id bigint, execution_id bigint, command_id text, event_class text, role text,
        reporter text, number integer, created_at timestamptz, outcome_ranked text,
        duration_ranked text, error_ranked text, step_ranked text, worker_ranked text,
        max_attempts_ranked text, iteration integer, attempts integer, may_be_retried boolean
    )
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
    set enable_hashjoin = on
as $$
#variable_conflict use_column
begin
    return query
        with event as materialized (
            select *,
                   is_numbered or bool_or(is_repeated) over (
                       partition by execution_id, command_id collate "C"
                   ) as may_be_retried,
                   any_unnumbered and (
                       is_numbered or bool_or(is_repeated and role = 'issued') over (
                           partition by execution_id, command_id collate "C"
                       )
                   ) as in_doubt
            from   (
                       select reported.*,
                              coalesce(max(number) over command > 0, false) as is_numbered,
                              bool_or(number is null) over command as any_unnumbered,
                              min(log) over command = max(log) over command as in_one_log,
                              role in ('issued', 'claimed', 'started')
                              and min(created_at) over role < max(created_at) over role
                                  as is_repeated
                       from   stored_call_events(call_events_by_attempt.commands) as reported
                       window command as (partition by execution_id, command_id collate "C"),
                              role as (
                                  partition by execution_id, command_id collate "C", role
                              )
                   ) as counted
        ),
        resolved as (
            select *
            from   resolve_attempts(
                       array(
                           select (
                                      event_id, execution_id, command_id, event_class, role,
                                      reporter, number, created_at, outcome_ranked,
                                      duration_ranked, error_ranked, step_ranked, worker_ranked,
                                      max_attempts_ranked, iteration, call_index, log,
                                      case when in_one_log then in_log end
                                  )::call_event
                           from   event
                           where  in_doubt
                       )
                   )
        )
        select event.event_id, execution_id, command_id, event_class, role, reporter, number,
               created_at, outcome_ranked, duration_ranked, error_ranked, step_ranked,
               worker_ranked, max_attempts_ranked, iteration,
               coalesce(resolved.attempts, number, 0), may_be_retried
        from   event
        left join resolved on resolved.event_id = event.event_id;
end
$$;
