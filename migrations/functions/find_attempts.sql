-- How attempts follow the events of their command. When an event arrives, changes or is deleted,
-- the command is rebuilt from all its stored events. One case is cheaper: a new event
-- of a command that has only its first attempt is merged into that attempt.
--
-- Some events don't say which attempt they are of (their attempts were defaulted). Rules for
-- these:
--    R1. An attempt is known by a number, or by an issue of its own: an issue without a number is
--        of the lowest attempt that nobody names. Where other issues have numbers, it's only of one
--        below the highest of them. If the first numbered attempt is a retry that nobody issued,
--        and an end without a number came before its claim or start, there's one before it.
--    R2. An attempt begins at its numbered issue, else at its first numbered claim or start, else
--        at its issue without a number, else just after the end of the attempt before. If its issue
--        came late, so that the log has a second claim or start first, after the end of the attempt
--        before, it begins at these.
--    R3. The event is of the last attempt that had begun before it (an issue, claim, or start: also
--        at the same time), or of the first attempt if none had. Their places in the log tell
--        what came first, if all events of the command with a place lie in one log. Otherwise the
--        clocks of the producers do. An end without a place, where others have one, is rather of the
--        last attempt that has neither an end in the log nor a numbered one, and whose claim or
--        start came before it by the clocks. These may be clocks of several workers, which disagree.
--    R4. An attempt has one end of its command, and one of each of its calls (by call_index). If
--        several without a number fall into one attempt, the earlier ones go to attempts before it
--        that have none, or else the later ones to attempts after it.
--    R5. Where an event has no place in that log, or an attempt before the last has no end, the
--        kinds of the ends may tell more, in the order of the clocks. An end is of the next attempt
--        if it comes after an end of the command, or of the same call or a later one. An end of the
--        command is also of the next attempt if it comes after a claim or a start, or if it
--        completes the command after a failed call. If that makes one group of ends for each
--        attempt, the groups are of the attempts in this order, or of those that they name.
-- A completion is the last of several ends or groups, because only failures are retried.
-- An attempt ends when its last call does: an end that one with a greater call_index follows does
-- not end it. deploy/calls.py follows the same rules.

-- Finds the attempts of commands in doubt, in order (`nth`, from 1), and when each began. `events`
-- are all events of those commands. It follows R1 and R2 in these steps:
--     1. issues without a number, in order, at times at which no numbered one was
--     2. the numbered attempts, and what they begin with
--     3. the attempts of all other issues, and one before the first
--     4. when each attempt began; `issued_at` is the time of its issue if that has no number
--     5. turns in the log: a claim or a start that comes next after the end of an attempt, and is
--        not the first one since the last attempt began. The next attempt has begun by then. An
--        event that is sent twice counts where it comes first.
create or replace function projector.find_attempts(events projector.call_event[])
    returns table (
        execution_id bigint, command_id text, number integer, nth bigint, begun_at timestamptz,
        in_log bigint[], issued_at timestamptz
    )
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
    set enable_hashjoin = on
    set enable_nestloop = off
as $$
#variable_conflict use_column
begin
    return query
        with doubtful as (
            select execution_id, command_id collate "C" as command_id, role, number, created_at,
                   call_index, in_log, reporter is not null as is_end,
                   reporter is not null
                   and coalesce(
                           min(call_index) over (
                               partition by execution_id, command_id collate "C", number, reporter
                               order by created_at, call_index
                               groups between 1 following and 1 following
                           ) <= call_index,
                           true
                       ) as ends_attempt
            from   unnest(find_attempts.events) as event
        ),
        -- 1. Issues without a number.
        issue as (
            select execution_id, command_id, created_at, in_log,
                   row_number() over (
                       partition by execution_id, command_id
                       order by case when have_places then in_log end, created_at
                   ) as nth
            from   (
                       select *, count(in_log) over command = count(*) over command as have_places
                       from   (
                                  select   distinct on (execution_id, command_id, created_at) *
                                  from     doubtful
                                  where    role = 'issued'
                                  order by execution_id, command_id, created_at, number nulls last,
                                           in_log nulls last
                              ) as one
                       where  number is null
                       window command as (partition by execution_id, command_id)
                   ) as placed
        ),
        -- 2. The numbered attempts.
        numbered as (
            select   execution_id, command_id, number,
                     bool_or(role = 'issued') as is_issued,
                     min(created_at) filter (where role in ('claimed', 'started')) as taken_at,
                     min(created_at) filter (where ends_attempt) as ended_at,
                     min(created_at) as first_at
            from     doubtful
            where    number is not null
            group by execution_id, command_id, number
        ),
        sign as (
            select   distinct on (execution_id, command_id, number)
                     execution_id, command_id, number, created_at, in_log
            from     doubtful
            where    number is not null
            and      role in ('issued', 'claimed', 'started')
            order by execution_id, command_id, number, role <> 'issued', created_at,
                     in_log nulls last
        ),
        -- 3. All attempts.
        command as (
            select   execution_id, command_id, coalesce(issues, 0) as issues,
                     count(number) as numbers, count(number) filter (where not is_issued) as lacking,
                     coalesce(array_agg(number) filter (where number is not null), '{}') as declared,
                     max(number) filter (where has_issue) as below
            from     (
                         select *, bool_or(is_issued) over command as has_issue
                         from   (select distinct execution_id, command_id from doubtful) as one
                         left join numbered using (execution_id, command_id)
                         left join (
                             select   execution_id, command_id, count(*) as issues
                             from     issue
                             group by execution_id, command_id
                         ) as counted using (execution_id, command_id)
                         window command as (partition by execution_id, command_id)
                     ) as known
            group by execution_id, command_id, issues
        ),
        named as (
            select execution_id, command_id, number
            from   numbered
            union all
            select execution_id, command_id, free.number
            from   command
            cross join lateral (
                select   number
                from     generate_series(0, (numbers + issues)::integer) as number
                where    number <> all(declared)
                order by number
                limit    greatest(issues - lacking, case when numbers = 0 then 1 else 0 end)
            ) as free
            where  free.number < below or below is null
        ),
        try as (
            select execution_id, command_id, number, issues,
                   row_number() over (partition by execution_id, command_id order by number) as nth,
                   row_number() over lacking as nth_lacking,
                   count(*) filter (where not coalesce(is_issued, false)) over (
                       partition by execution_id, command_id
                   ) as lacking,
                   coalesce(is_issued, false) as is_issued, ended_at, first_at
            from   (
                       select execution_id, command_id, number
                       from   named
                       union all
                       select first.execution_id, first.command_id, first.number - 1
                       from   (
                                  select   execution_id, command_id, min(number) as number
                                  from     named
                                  group by execution_id, command_id
                              ) as first
                       join   numbered using (execution_id, command_id, number)
                       where  number > 0
                       and    not is_issued
                       and    exists (
                                  select
                                  from   doubtful as sign
                                  where  sign.execution_id = first.execution_id
                                  and    sign.command_id = first.command_id
                                  and    sign.number is null
                                  and    sign.is_end
                                  and    sign.created_at < taken_at
                              )
                   ) as attempt
            left join numbered using (execution_id, command_id, number)
            join   command using (execution_id, command_id)
            window lacking as (
                       partition by execution_id, command_id, coalesce(is_issued, false)
                       order by number
                   )
        ),
        -- 4. When each attempt began.
        begun as (
            select try.execution_id, try.command_id, try.number, try.nth, ended_at, first_at,
                   coalesce(sign.created_at, issue.created_at) as begun_at,
                   case when sign.created_at is null then issue.in_log else sign.in_log end
                       as in_log,
                   issue.created_at as issued_at
            from   try
            left join sign
                   on  sign.execution_id = try.execution_id
                   and sign.command_id = try.command_id
                   and sign.number = try.number
            left join issue
                   on  issue.execution_id = try.execution_id
                   and issue.command_id = try.command_id
                   and issue.nth = try.nth_lacking
                   and not try.is_issued
                   and try.issues >= try.lacking
        ),
        started as (
            select execution_id, command_id, number, nth,
                   coalesce(
                       begun_at,
                       lag(coalesce(ended_at, next_end_at)) over command + interval '1 microsecond',
                       first_at
                   ) as begun_at,
                   in_log, issued_at
            from   (
                       select *,
                              min(at) filter (where number is null) over (
                                  partition by execution_id, command_id
                                  order by at desc, number nulls last rows unbounded preceding
                              ) as next_end_at
                       from   (
                                  select *,
                                         case when nth = 1 then '-infinity' else begun_at end as at
                                  from   begun
                                  union all
                                  select execution_id, command_id, null, null, null, null, null,
                                         null, null, created_at
                                  from   doubtful
                                  where  number is null
                                  and    ends_attempt
                              ) as moment
                   ) as followed
            where  number is not null
            window command as (partition by execution_id, command_id order by number)
        ),
        -- 5. Turns.
        step as (
            select *,
                   coalesce(max(begins_nth) over so_far, 1) as last_nth,
                   min(begins_nth) over (
                       partition by execution_id, command_id
                       order by in_log, begins_nth nulls last
                       rows between current row and unbounded following
                   ) as next_nth,
                   count(begins_nth) over so_far as part
            from   (
                       select   execution_id, command_id, role, is_end, min(in_log) as in_log,
                                is_end
                                and coalesce(
                                        lead(call_index) over (
                                            partition by execution_id, command_id, role
                                            order by min(in_log), call_index
                                        ) <= call_index,
                                        true
                                    ) as ends_attempt,
                                null::bigint as begins_nth
                       from     doubtful
                       where    in_log is not null
                       and      (is_end or role in ('claimed', 'started'))
                       group by execution_id, command_id, role, is_end, created_at, call_index
                       union all
                       select execution_id, command_id, null, null, in_log, null, nth
                       from   started
                       where  nth > 1
                       and    in_log is not null
                   ) as placed
            window so_far as (
                       partition by execution_id, command_id order by in_log, begins_nth nulls last
                       rows unbounded preceding
                   )
        ),
        turn as (
            select *
            from   (
                       select execution_id, command_id, in_log, next_nth,
                              last_nth + row_number() over (
                                  partition by execution_id, command_id, part order by in_log
                              ) as nth
                       from   (
                                  select *,
                                         not is_end
                                         and lag(ends_attempt) over (
                                             partition by execution_id, command_id, part
                                             order by in_log, begins_nth nulls last
                                         )
                                         and row_number() over (
                                             partition by execution_id, command_id, part, role
                                             order by in_log
                                         ) > 1 as is_turn
                                  from   step
                              ) as stepped
                       where  is_turn
                   ) as counted
            where  nth <= coalesce(next_nth, nth)
        )
        select execution_id, command_id, number, nth, begun_at,
               coalesce(turn.in_log, started.in_log) as in_log, issued_at
        from   started
        left join turn using (execution_id, command_id, nth);
end
$$;
