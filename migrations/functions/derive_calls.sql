-- Takes commands, and derives their attempts from their stored events. Returns a row for each
-- attempt, with the columns of call_facts. `is_numbered` is true if an event of the attempt names
-- its number. `may_be_retried` is true if anything hints at a second attempt of the command: a
-- number above 0, or two issues, claims, or starts. rebuild_calls calls this to write the attempts,
-- and `projector verify` to compare them.
--
-- For example, these events of one command
--     event_type     | created_at | status  | declared number
--     command.issued | 09:00:00   | PENDING |
--     call.error     | 09:00:05   | FAILED  |
--     command.issued | 09:00:20   | PENDING | 1
-- are two attempts:
--     attempts | begun_at | issued_at | outcome_ranked               | is_numbered | may_be_retried
--            0 | 09:00:00 | 09:00:00  | FAILED at 09:00:05 (encoded) | false       | true
--            1 | 09:00:20 | 09:00:20  |                              | true        | true
--     1. read the events
--     2. find the commands in doubt, some of whose events don't say to which attempt they belong
--     3. find the attempts of the events of these commands
--     4. aggregate the events of each attempt, as project_calls does with new events
-- This and other functions that every batch calls are written in plpgsql, because an SQL function
-- would be planned each time.
create or replace function projector.derive_calls(commands projector.call_command[])
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
        -- 1. The events of these commands, with what they report (call_facts_from_event). `number`
        -- is the number of the attempt if the event declares it. The type call_event explains
        -- nth_command, log_position, and end_slot (0007_create_calls.sql).
        with stored_event as materialized (
            select event.event_id, event.execution_id, wanted.command_id, wanted.nth_command,
                   kind.event_class, kind.role, event.created_at, event.iteration, report.*,
                   case when evidence_rank(event.evidence, 'attempts') > 0 then event.attempts end
                       as number,
                   -- A call_index has at most 9 digits, so the slot of the command is the highest.
                   case report.reporter
                       when '0'
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
                       when '1' then 1000000000
                   end as end_slot,
                   case
                       when record.tells_order
                       then event.source_topic || ':' || event.source_incarnation || ':'
                            || event.source_partition
                   end as log,
                   case
                       when record.tells_order then array[event.source_offset, event.source_index]
                   end as log_position
            from   unnest(derive_calls.commands) with ordinality
                       as wanted (execution_id, command_id, nth_command)
            cross join lateral (
                select *
                from   normalizer.events as stored
                -- `+ 0` and `hashtext` lead to the index on the hash of command ids.
                where  stored.execution_id + 0 = wanted.execution_id
                and    hashtext(stored.command_id) = hashtext(wanted.command_id)
                and    stored.command_id = wanted.command_id
                offset 0
            ) as event
            join   event_kinds as kind on kind.event_type = event.event_type
            cross join lateral call_facts_from_event(
                kind.role, kind.outcome, event.status, event.created_at, event.evidence,
                event.step, event.worker_id, event.max_attempts, event.duration, event.error,
                event.context, event.result
            ) as report
            -- The place of a record in its log usually tells when its event happened. It doesn't if
            -- the record came late, or if another record reported the event in another log or
            -- earlier in this one. The row has the coordinates of the record that was read first.
            -- LATE_RECORD_DELAY says why 5 s, and what wrong clocks of workers do to this test.
            -- tests/rules/test_migrations.py checks that both values are those of merge_flags.py.
            cross join lateral (
                select event.recorded_at
                       < event.created_at
                         + interval '5 seconds' -- LATE_RECORD_DELAY of merge_flags.py
                       and event.merge_flags & 32 = 0 -- REPORTED_ELSEWHERE_FLAG of merge_flags.py
                           as tells_order
            ) as record
            where  kind.subject = 'call'
        ),
        -- 2. What the events of each command have in common. A second claim or start may be another
        -- worker's after the first one lost its lease. So without a number, only a second issue
        -- puts the command in doubt.
        command as (
            select nth_command, is_in_one_log,
                   coalesce(
                       has_retry_number or has_two_issues or has_two_claims or has_two_starts, false
                   ) as may_be_retried,
                   lacks_numbers and coalesce(has_retry_number or has_two_issues, false)
                       as is_in_doubt
            from   (
                       select   nth_command, bool_or(number is null) as lacks_numbers,
                                max(number) > 0 as has_retry_number,
                                min(log) = max(log) as is_in_one_log,
                                min(created_at) filter (where role = 'issued')
                                < max(created_at) filter (where role = 'issued') as has_two_issues,
                                min(created_at) filter (where role = 'claimed')
                                < max(created_at) filter (where role = 'claimed') as has_two_claims,
                                min(created_at) filter (where role = 'started')
                                < max(created_at) filter (where role = 'started') as has_two_starts
                       from     stored_event
                       group by nth_command
                   ) as compared_command
        ),
        event as (
            select *
            from   stored_event
            join   command using (nth_command)
        ),
        -- 3. Offsets of different logs can't be compared, so they count only if all events of the
        -- command that have one are in one log. The columns are cast to call_event by position
        -- (tests/rules/test_migrations.py compares their names).
        event_in_doubt as (
            select event_id, nth_command, role, number as declared_number, created_at,
                   case when is_in_one_log then log_position end as log_position, end_slot,
                   end_rank(reporter, encode_time(created_at), call_outcome(outcome_ranked))
                   || event_class as end_key,
                   null::integer as nth_attempt
            from   event
            where  is_in_doubt
        ),
        resolved_event as (
            select event_id, number
            from   resolve_attempts(
                       array(select event_in_doubt::call_event from event_in_doubt)
                   )
        ),
        event_of_attempt as (
            select event.*, coalesce(resolved_event.number, event.number, 0) as attempts
            from   event
            left join resolved_event on resolved_event.event_id = event.event_id
        )
        -- 4. The least of each value wins. These are the lines of project_calls, which says above
        -- `change` why the least wins, and why the lines are written again.
        select   execution_id, command_id, attempts,
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
                 bool_or(number is not null) as is_numbered,
                 bool_or(may_be_retried) as may_be_retried
        from     event_of_attempt
        group by execution_id, command_id, attempts;
end
$$;
