-- Builds the attempts of these commands from their stored events. `may_be_retried` is true if
-- anything hints at a second attempt of the command: a number, or two issues, claims, or starts.
--     1. read the events. The place of a record in its log usually tells when its event happened, but
--        not if the record came late, or if another record reported the event in another log or
--        earlier in this one (merge_flags). The row has the coordinates of the record read first.
--     2. find the commands in doubt, some of whose events don't say to which attempt they belong
--     3. find the attempts of their events
--     4. keep the least of each ranked value of an attempt, as project_calls does with new events
-- This and other functions that every batch calls are written in plpgsql, because an SQL function
-- would be planned each time.
create or replace function projector.aggregate_calls(commands projector.call_command[])
    returns table (
        execution_id bigint, command_id text, attempts integer, begun_at timestamptz,
        issued_at timestamptz, claimed_at timestamptz, started_at timestamptz, outcome_ranked text,
        duration_ranked text, error_ranked text, step_ranked text, worker_ranked text,
        max_attempts_ranked text, iteration integer, is_numbered boolean, may_be_retried boolean
    )
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
    -- project_calls turns hash joins off, but the query in this function needs them. It joins the
    -- events of all commands in a batch with each other, and a nested loop would take quadratic
    -- time for that.
    set enable_hashjoin = on
as $$
#variable_conflict use_column
begin
    return query
        -- 1. The events of these commands.
        with stored as materialized (
            select event.event_id, event.execution_id, event.command_id, wanted.command,
                   kind.event_class, kind.role, said.reporter,
                   case when evidence_rank(event.evidence, 'attempts') > 0 then event.attempts end
                       as number,
                   event.created_at, said.outcome_ranked, said.duration_ranked, said.error_ranked,
                   said.step_ranked, said.worker_ranked, said.max_attempts_ranked,
                   event.iteration,
                   case
                       when kind.role = 'done'
                       then coalesce(
                                substring(
                                    (event.context -> 'call_index')::text from '^[0-9]{1,9}$'
                                )::integer,
                                substring(
                                    (event.result -> 'context' -> 'call_index')::text
                                    from '^[0-9]{1,9}$'
                                )::integer,
                                0
                            )
                       else 0
                   end as call_index,
                   place.log, place.in_log
            from   unnest(aggregate_calls.commands) with ordinality
                       as wanted (execution_id, command_id, command)
            cross join lateral (
                select *
                from   normalizer.events as one
                -- `+ 0` and `hashtext` lead to the index on the hash of command ids.
                where  one.execution_id + 0 = wanted.execution_id
                and    hashtext(one.command_id) = hashtext(wanted.command_id)
                and    one.command_id = wanted.command_id
                offset 0
            ) as event
            join   event_kinds as kind on kind.event_type = event.event_type
            cross join lateral report_on_call(
                kind.role, kind.outcome, event.status, event.created_at, event.evidence,
                event.step, event.worker_id, event.max_attempts, event.duration, event.error,
                event.context, event.result
            ) as said
            left join lateral (
                select event.source_topic || ':' || event.source_incarnation || ':'
                       || event.source_partition as log,
                       array[event.source_offset, event.source_index] as in_log
            ) as place
                on  event.recorded_at < event.created_at + interval '5 seconds' -- LATE of merge_flags.py
                and event.merge_flags & 32 = 0 -- ELSEWHERE of merge_flags.py
            where  kind.subject = 'call'
        ),
        -- 2. The commands in doubt.
        event as materialized (
            select *,
                   has_retry_number or bool_or(is_repeated) over (partition by command)
                       as may_be_retried,
                   any_unnumbered and (
                       has_retry_number
                       or bool_or(is_repeated and role = 'issued') over (partition by command)
                   ) as in_doubt
            from   (
                       select stored.*,
                              coalesce(max(number) over of_command > 0, false)
                                  as has_retry_number,
                              bool_or(number is null) over of_command as any_unnumbered,
                              min(log) over of_command = max(log) over of_command as in_one_log,
                              role in ('issued', 'claimed', 'started')
                              and min(created_at) over of_role < max(created_at) over of_role
                                  as is_repeated
                       from   stored
                       window of_command as (partition by command),
                              of_role as (partition by command, role)
                   ) as counted
        ),
        -- 3. Their attempts.
        resolved as (
            select *
            from   resolve_attempts(
                       array(
                           select (
                                      event_id, command, role, number, created_at,
                                      case when in_one_log then in_log end,
                                      -- A call_index has at most 9 digits.
                                      case reporter
                                          when '0' then call_index when '1' then 1000000000
                                      end,
                                      end_rank(
                                          reporter, encode_time(created_at),
                                          call_outcome(outcome_ranked)
                                      ) || event_class,
                                      null
                                  )::call_event
                           from   event
                           where  in_doubt
                       )
                   )
        ),
        attempt as (
            select event.*, coalesce(resolved.number, event.number, 0) as attempts
            from   event
            left join resolved on resolved.event_id = event.event_id
        )
        -- 4. One row for each attempt.
        select   execution_id, command_id collate "C", attempts, min(created_at),
                 min(created_at) filter (where role = 'issued'),
                 min(created_at) filter (where role = 'claimed'),
                 min(created_at) filter (where role = 'started'),
                 min(outcome_ranked collate "C"), min(duration_ranked collate "C"),
                 min(error_ranked collate "C"), min(step_ranked collate "C"),
                 min(worker_ranked collate "C"), min(max_attempts_ranked collate "C"),
                 min(iteration), bool_or(number is not null), bool_or(may_be_retried)
        from     attempt
        group by execution_id, command_id collate "C", attempts;
end
$$;
