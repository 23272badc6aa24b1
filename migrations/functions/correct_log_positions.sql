-- Corrects where in the log an attempt began, if the event that issued it was recorded late (the
-- last sentence of rule R2 of resolve_attempts, which calls this). Takes the events and attempts of
-- commands in doubt, and returns the attempts, some with another `log_position`. The types
-- call_event and call_attempt explain the columns (0007_create_calls.sql).
--
-- The log shows the beginning even without the issue: if a command is claimed or started for the
-- second time after its attempt has ended, a new attempt began with that claim or start. For
-- example, the log has the issue of attempt 2 at its very end:
--     log_position | role    | created_at         nth_attempt | log_position is | and becomes
--     {1,0}        | issued  | 09:00:00                     1 | {1,0}           | {1,0}
--     {2,0}        | started | 09:00:02    ->               2 | {6,0}           | {4,0}
--     {3,0}        | done    | 09:00:03
--     {4,0}        | started | 09:00:12
--     {5,0}        | done    | 09:00:13
--     {6,0}        | issued  | 09:00:11
-- If an event was sent twice, only its first record counts.
--     1. list the ends, claims, and starts in the log, and the known begins of attempts
--     2. divide the log into parts, each from a known begin to the next
--     3. find the claims and starts with which more attempts began within a part
create or replace function projector.correct_log_positions(
    events projector.call_event[], attempts projector.call_attempt[]
)
    returns setof projector.call_attempt
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        with attempt as (
            select * from unnest(correct_log_positions.attempts)
        ),
        -- 1. An end doesn't end its attempt if a later call ends next. find_attempts has the same
        -- rule for the order of the clocks, says why it's by role, and has to compare the ends of
        -- each number separately.
        -- Here all ends are compared, because the log shows them in order. `begun_attempt` is the
        -- attempt that begins with the entry, or null if the entry is an event.
        log_entry as (
            select   nth_command, role, end_slot, min(log_position) as log_position,
                     end_slot is not null
                     and coalesce(
                             lead(end_slot) over (
                                 partition by nth_command, role
                                 order by min(log_position), end_slot
                             ) <= end_slot,
                             true
                         ) as ends_attempt,
                     null::integer as begun_attempt
            from     unnest(correct_log_positions.events)
            where    log_position is not null
            and      (end_slot is not null or role in ('claimed', 'started'))
            group by nth_command, role, end_slot, created_at
            union all
            select nth_command, null as role, null as end_slot, log_position,
                   null as ends_attempt, nth_attempt
            from   attempt
            where  nth_attempt > 1
            and    log_position is not null
        ),
        -- 2. Usually the begin of attempt `part_attempt` opens the part, and that of
        -- `next_part_attempt` closes it. If the log shows begins in another order, these are the
        -- highest attempt that has begun so far, and the lowest that begins later.
        entry_in_part as (
            select *,
                   coalesce(max(begun_attempt) over so_far, 1) as part_attempt,
                   min(begun_attempt) over (
                       partition by nth_command order by log_position, begun_attempt nulls last
                       rows between current row and unbounded following
                   ) as next_part_attempt,
                   count(begun_attempt) over so_far as part
            from   log_entry
            window so_far as (
                       partition by nth_command order by log_position, begun_attempt nulls last
                       rows unbounded preceding
                   )
        ),
        -- 3. A claim or start right after an end of an attempt begins the next attempt, unless it's
        -- the first one of its role in the part. For example, if a part opens with attempt 2, the
        -- first such entry begins attempt 3, and the second one begins attempt 4.
        later_begin as (
            select nth_command, log_position, next_part_attempt,
                   part_attempt
                   + row_number() over (partition by nth_command, part order by log_position)
                       as nth_attempt
            from   (
                       select *,
                              end_slot is null
                              and lag(ends_attempt) over (
                                  partition by nth_command, part
                                  order by log_position, begun_attempt nulls last
                              )
                              and row_number() over (
                                  partition by nth_command, part, role order by log_position
                              ) > 1 as begins_attempt
                       from   entry_in_part
                   ) as compared_entry
            where  begins_attempt
        )
        -- At most one row of later_begin matches an attempt. The rows of a part count up from above
        -- `part_attempt`, the highest attempt that has begun so far, and match only up to
        -- `next_part_attempt`, the lowest that begins later. Every later part counts from at least
        -- that one, so no number occurs in two parts.
        select attempt.nth_command, attempt.nth_attempt, number, begun_at,
               coalesce(later_begin.log_position, attempt.log_position), unnumbered_issue_at
        from   attempt
        left join later_begin
               on  later_begin.nth_command = attempt.nth_command
               and later_begin.nth_attempt = attempt.nth_attempt
               -- A part may show more begins than there are attempts before the next part. Ignore
               -- the surplus.
               and later_begin.nth_attempt
                   <= coalesce(later_begin.next_part_attempt, later_begin.nth_attempt);
end
$$;
