-- Finds the attempts of commands in doubt, and when each attempt began (rules R1 and R2 of
-- resolve_attempts). Takes all events of these commands, and returns one row for each attempt. The
-- next function, correct_log_positions, corrects where those attempts began whose issues were
-- recorded late. An issue is an event with the role `issued`. It's numbered if it declares its
-- number.
--
-- For example, a worker numbers its retry, and nobody else numbers anything:
--     role    | created_at | declared_number
--     issued  | 09:00:00   |
--     done    | 09:00:05   |
--     issued  | 09:00:20   |
--     started | 09:00:21   | 1
-- Each step adds what it finds. Steps 1 to 4 find which attempts there are (R1):
--     1. The end at 09:00:05 ends its attempt. There are two issues without a number.
--     2. A number reveals attempt 1. It was taken at 09:00:21, and has no numbered issue (R1a).
--     3. So one of the two issues must be that of attempt 1. The other one reveals an attempt
--        (R1a), which gets the lowest number that nobody declares, 0 (R1b).
--     4. Attempt 0 is known, so its end has nothing to reveal. Without the first issue, the end at
--        09:00:05 would reveal attempt 0, because it came before attempt 1 was taken (R1c).
-- Steps 5 and 6 find when they began (R2):
--     5. In order, attempt 0 gets the issue of 09:00:00, and attempt 1 that of 09:00:20 (R1b).
--     6. Attempt 0 begins at its issue, and attempt 1 at its numbered start. An attempt with
--        neither would begin just after the end of the one before it.
-- The result:
--     number | nth_attempt | begun_at | unnumbered_issue_at
--          0 |           1 | 09:00:00 | 09:00:00
--          1 |           2 | 09:00:21 | 09:00:20
create or replace function projector.find_attempts(events projector.call_event[])
    returns setof projector.call_attempt
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        -- 1. An end doesn't end its attempt if the next one is the end of a later call. An end that
        -- declares a number is compared only with ends of the same number, because other attempts
        -- may have other clocks. A call's end isn't compared with that of its command (`role`),
        -- because an attempt ends when its last call does, although the command's end follows.
        -- correct_log_positions has the same rule for the order of the log. An end may be sent
        -- twice, so the next one has another time or slot, and is in the next peer group.
        with event as (
            select *,
                   end_slot is not null and coalesce(min(end_slot) over next_end <= end_slot, true)
                       as ends_attempt
            from   unnest(find_attempts.events)
            window next_end as (
                partition by nth_command, declared_number, role order by created_at, end_slot
                groups between 1 following and 1 following
            )
        ),
        -- Issues of one time are reports of one issue, which has a number if any of them has.
        issue as (
            select   distinct on (nth_command, created_at) *
            from     event
            where    role = 'issued'
            order by nth_command, created_at, declared_number nulls last, log_position nulls last
        ),
        -- The issues without a number, in the order of the log if it has all of them, or else in
        -- the order of the clocks.
        unnumbered_issue as (
            select nth_command, created_at, log_position,
                   row_number() over (
                       partition by nth_command
                       order by case when all_in_log then log_position end, created_at
                   ) as nth_issue
            from   (
                       select *,
                              bool_and(log_position is not null) over (partition by nth_command)
                                  as all_in_log
                       from   issue
                       where  declared_number is null
                   ) as issue_without_number
        ),
        -- 2. An attempt is known by a number (R1a). Sum up the events that declare the same number.
        -- `taken_at` is the time of the first claim or start.
        numbered_attempt as (
            select   nth_command, declared_number as number,
                     bool_or(role = 'issued') as has_numbered_issue,
                     min(created_at) filter (where role in ('claimed', 'started')) as taken_at,
                     min(created_at) filter (where ends_attempt) as numbered_end_at,
                     min(created_at) as first_event_at
            from     event
            where    declared_number is not null
            group by nth_command, declared_number
        ),
        -- The event with which such an attempt begins: its issue, or else its first claim or start.
        numbered_begin as (
            select   distinct on (nth_command, declared_number)
                     nth_command, declared_number as number, created_at, log_position
            from     event
            where    declared_number is not null
            and      role in ('issued', 'claimed', 'started')
            order by nth_command, declared_number, role <> 'issued', created_at,
                     log_position nulls last
        ),
        -- 3. Or by an issue (R1a). Each numbered attempt without a numbered issue was issued by one
        -- of the issues without a number. If there are more of these, each of the others reveals an
        -- attempt. If any issue is numbered, the attempts that others reveal are below the highest
        -- declared number (R1b).
        command as (
            select nth_command, coalesce(unnumbered_issues, 0) as unnumbered_issues,
                   coalesce(lacking_issues, 0) as lacking_issues,
                   coalesce(declared_numbers, '{}') as declared_numbers, below_number
            from   (select distinct nth_command from event) as command_in_doubt
            left join (
                select   nth_command, count(*) as unnumbered_issues
                from     unnumbered_issue
                group by nth_command
            ) as with_issues using (nth_command)
            left join (
                select   nth_command, array_agg(number) as declared_numbers,
                         count(*) filter (where not has_numbered_issue) as lacking_issues,
                         case when bool_or(has_numbered_issue) then max(number) end as below_number
                from     numbered_attempt
                group by nth_command
            ) as with_numbers using (nth_command)
        ),
        -- They get the lowest numbers that nobody declares (R1b). If nothing reveals any attempt of
        -- a command, it has one, with the number 0. The limit is how many are revealed. The series
        -- is long enough, because it still has that many numbers without the declared ones.
        revealed_attempt as (
            select command.nth_command, free.number
            from   command
            cross join lateral (
                select   number
                from     generate_series(
                             0, (cardinality(declared_numbers) + unnumbered_issues)::integer
                         ) as number
                where    number <> all(declared_numbers)
                order by number
                limit    greatest(
                             unnumbered_issues - lacking_issues,
                             case when declared_numbers = '{}' then 1 else 0 end
                         )
            ) as free
            where  below_number is null
            or     free.number < below_number
        ),
        known_attempt as (
            select nth_command, number
            from   numbered_attempt
            union all
            select nth_command, number
            from   revealed_attempt
        ),
        -- 4. A worker may number only retries. If the first known attempt is such a retry, an end
        -- before its claim or start reveals the attempt before it (R1c).
        first_attempt as (
            select   distinct on (nth_command) *
            from     known_attempt
            left join numbered_attempt using (nth_command, number)
            order by nth_command, number
        ),
        attempt as (
            select nth_command, number
            from   known_attempt
            union all
            select nth_command, number - 1
            from   first_attempt
            where  number > 0
            and    not has_numbered_issue
            and    exists (
                       select
                       from   event
                       where  event.nth_command = first_attempt.nth_command
                       and    event.declared_number is null
                       and    event.end_slot is not null
                       and    event.created_at < first_attempt.taken_at
                   )
        ),
        -- 5. Number the attempts of a command, and those without a numbered issue among them, to
        -- match these with the issues without a number (R1b).
        ordered_attempt as (
            select *,
                   row_number() over (partition by nth_command order by number) as nth_attempt,
                   case
                       when not has_numbered_issue
                       then row_number() over (
                                partition by nth_command, has_numbered_issue order by number
                            )
                   end as nth_issue,
                   count(*) filter (where not has_numbered_issue) over (partition by nth_command)
                       as issues_needed
            from   (
                       select nth_command, number, numbered_end_at, first_event_at,
                              coalesce(has_numbered_issue, false) as has_numbered_issue
                       from   attempt
                       left join numbered_attempt using (nth_command, number)
                   ) as numbered_or_not
        ),
        -- The first issue without a number belongs to the first of these, and so on. If there are
        -- fewer issues than such attempts, nobody knows which issues are missing, so no attempt
        -- gets one.
        issued_attempt as (
            select ordered_attempt.nth_command, nth_attempt, number, numbered_end_at,
                   first_event_at,
                   coalesce(numbered_begin.created_at, unnumbered_issue.created_at) as begun_at,
                   case
                       when numbered_begin.created_at is null then unnumbered_issue.log_position
                       else numbered_begin.log_position
                   end as log_position,
                   unnumbered_issue.created_at as unnumbered_issue_at
            from   ordered_attempt
            left join numbered_begin using (nth_command, number)
            join   command using (nth_command)
            left join unnumbered_issue
                   on  unnumbered_issue.nth_command = ordered_attempt.nth_command
                   and unnumbered_issue.nth_issue = ordered_attempt.nth_issue
                   and command.unnumbered_issues >= ordered_attempt.issues_needed
        ),
        -- 6. The attempts at their begins, and the ends without a number. The first attempt begins
        -- before all ends, because the first end belongs to it, even if clocks say it came earlier.
        begin_or_end as (
            select nth_command, nth_attempt, number, numbered_end_at, first_event_at, begun_at,
                   log_position, unnumbered_issue_at,
                   case when nth_attempt = 1 then '-infinity' else begun_at end as at
            from   issued_attempt
            union all
            select nth_command, null as nth_attempt, null as number, null as numbered_end_at,
                   null as first_event_at, null as begun_at, null as log_position,
                   null as unnumbered_issue_at, created_at
            from   event
            where  declared_number is null
            and    ends_attempt
        ),
        -- `next_end_at` is the first of these ends after the begin of the attempt. The window runs
        -- backwards in time, because PostgreSQL is faster with windows that grow.
        followed_attempt as (
            select *,
                   min(at) filter (where number is null) over (
                       partition by nth_command order by at desc, number nulls last
                       rows unbounded preceding
                   ) as next_end_at
            from   begin_or_end
        )
        -- An attempt without a known begin (R2) begins just after the one before it ended, by the
        -- least step of a timestamp, so that the end belongs to the attempt before. That one ended
        -- with the end that declares its number, or else with the next end that has none.
        select nth_command, nth_attempt::integer, number,
               coalesce(
                   begun_at,
                   lag(coalesce(numbered_end_at, next_end_at)) over (
                       partition by nth_command order by number
                   ) + interval '1 microsecond',
                   first_event_at
               ),
               log_position, unnumbered_issue_at
        from   followed_attempt
        where  number is not null;
end
$$;
