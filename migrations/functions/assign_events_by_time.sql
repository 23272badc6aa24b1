-- Finds the attempt of each event of commands in doubt (rule R3 of resolve_attempts). Takes their
-- events and attempts, and returns the events with `nth_attempt` set. An event that declares a
-- number belongs to the attempt with that number. An issue without a number belongs to the attempt
-- that it issues. Any other event belongs to the last attempt that had begun before the event.
--
-- For example, the second worker's clock is behind. The log shows that its events came after the
-- second issue:
--     role   | created_at | log_position         nth_attempt
--     issued | 09:00:00   | {1041,0}                       1
--     done   | 09:00:05   | {1042,0}      ->               1
--     issued | 09:00:20   | {1043,0}                       2
--     done   | 09:00:18   | {1044,0}                       2
-- In another command, step 4 decides. The first worker's clock is 17 s ahead, and its failure came
-- late, so it isn't in the log. By the clocks, it came after the second issue:
--     role    | created_at | log_position | after step 3 | nth_attempt
--     issued  | 09:00:00   | {1051,0}     |            1 | 1
--     started | 09:00:18   | {1052,0}     |            1 | 1
--     issued  | 09:00:20   | {1053,0}     |            2 | 2
--     done    | 09:00:22   |              |            2 | 1   the failure
--     done    | 09:00:25   | {1054,0}     |            2 | 2
-- Attempt 2 has an end in the log, and attempt 1 was started before the failure.
--     1. find which attempts events name or issue
--     2. sort the events and the begins of attempts, by the clocks and by the log
--     3. give each event its attempt
--     4. correct the ends that aren't in the log
create or replace function projector.assign_events_by_time(
    events projector.call_event[], attempts projector.call_attempt[]
)
    returns setof projector.call_event
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        with attempt as (
            select * from unnest(assign_events_by_time.attempts)
        ),
        -- 1. `known_attempt` is the attempt that an event declares or issues. The first attempt
        -- needs no begin, because it also has the events before it.
        event_or_begin as (
            select event.event_id, event.nth_command, event.role, event.declared_number,
                   event.created_at, event.log_position, event.end_slot, event.end_key,
                   coalesce(declared.nth_attempt, issued.nth_attempt) as known_attempt,
                   null::integer as begun_attempt, event.created_at as at,
                   -- At the same time, an end comes first (0), then the begin of an attempt (1),
                   -- and then any other event (2). So an end still belongs to the previous
                   -- attempt, and any other event to the new one.
                   case when event.end_slot is null then 2 else 0 end as order_at_same_time
            from   unnest(assign_events_by_time.events) as event
            left join attempt as declared
                   on  declared.nth_command = event.nth_command
                   and declared.number = event.declared_number
            left join attempt as issued
                   on  issued.nth_command = event.nth_command
                   and issued.unnumbered_issue_at = event.created_at
                   and event.declared_number is null
                   and event.role = 'issued'
            union all
            select null as event_id, nth_command, null as role, null as declared_number,
                   null as created_at, log_position, null as end_slot, null as end_key,
                   null as known_attempt, nth_attempt, begun_at, 1
            from   attempt
            where  nth_attempt > 1
        ),
        -- 2. The last attempt that had begun so far:
        --     by_clock        by the clocks
        --     by_log          by the log, among the attempts whose begin is in the log
        --     out_of_log      by the clocks, among the other attempts
        ordered as (
            select *,
                   max(begun_attempt) over clock_order as by_clock,
                   max(begun_attempt) over log_order as by_log,
                   max(begun_attempt) filter (where log_position is null) over clock_order
                       as out_of_log
            from   event_or_begin
            window clock_order as (
                       partition by nth_command order by at, order_at_same_time, begun_attempt
                       rows unbounded preceding
                   ),
                   log_order as (
                       partition by nth_command order by log_position, begun_attempt nulls last
                       rows unbounded preceding
                   )
        ),
        -- 3. If both an event and a begin are in the log, the log tells which came first, because
        -- the clocks of different workers may disagree. Otherwise only the clocks can tell.
        placed_event as (
            select *,
                   coalesce(
                       known_attempt,
                       case when log_position is null then by_clock
                            else greatest(by_log, out_of_log)
                       end,
                       1
                   ) as nth_attempt
            from   ordered
            where  begun_attempt is null
        ),
        -- 4. An end may be missing in the log although it has other events of the command. By the
        -- clocks, such an end belongs to the last attempt that was claimed or started before it,
        -- among the attempts without an end in the log and without an end that declares them.
        end_out_of_log as (
            select event_id, nth_command, created_at
            from   (
                       select *,
                              bool_or(log_position is not null) over (partition by nth_command)
                                  as any_in_log
                       from   placed_event
                   ) as event
            where  any_in_log
            and    end_slot is not null
            and    declared_number is null
            and    log_position is null
        ),
        attempt_without_end as (
            select   nth_command, nth_attempt,
                     min(created_at) filter (where role in ('claimed', 'started')) as taken_at
            from     placed_event
            group by nth_command, nth_attempt
            having   count(*) filter (
                         where end_slot is not null
                         and   (log_position is not null or declared_number is not null)
                     ) = 0
        ),
        corrected_end as (
            select event_id,
                   max(taken_attempt) over (
                       partition by nth_command order by at, taken_attempt nulls last
                       rows unbounded preceding
                   ) as nth_attempt
            from   (
                       select event_id, nth_command, created_at as at,
                              null::integer as taken_attempt
                       from   end_out_of_log
                       union all
                       select null as event_id, nth_command, taken_at, nth_attempt
                       from   attempt_without_end
                   ) as end_or_attempt
        )
        select event_id, nth_command, role, declared_number, created_at, log_position, end_slot,
               end_key, coalesce(corrected_end.nth_attempt, placed_event.nth_attempt)
        from   placed_event
        left join corrected_end using (event_id);
end
$$;
