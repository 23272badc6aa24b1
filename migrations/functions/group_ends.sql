-- Assigns ends of calls and commands to attempts by their kinds, if their times don't tell enough
-- (rule R5 of resolve_attempts). For example, a command that is completed after one of its calls
-- has failed must have been retried, so the completion belongs to the next attempt. Rules like this
-- one split the ends of a command into groups. The attempts of the ends are changed only if there's
-- exactly one group for each attempt of the command.
create or replace function projector.group_ends(
    events projector.call_event[], attempts projector.call_attempt[]
)
    returns setof projector.call_event
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        with event as (
            select * from unnest(group_ends.events)
        ),
        -- Selects the commands that may still have an end in the wrong attempt. That's possible if
        -- one of their events isn't in the log, because then only the clocks tell its place, or if
        -- an attempt before the last one has no end.
        unclear as (
            select   command, last_nth
            from     event
            join     (
                         select   command, max(nth) as last_nth
                         from     unnest(group_ends.attempts)
                         group by command
                     ) as counted using (command)
            group by command, last_nth
            having   bool_or(in_log is null)
            or       count(distinct nth) filter (where slot is not null and nth < last_nth)
                     < last_nth - 1
        ),
        -- Lists each end of these commands once, even if several events report it. `takes` is the
        -- number of claims and starts of the command before this end.
        report as (
            select command, role, slot, ending, created_at, takes,
                   call_outcome(ending) = 'COMPLETED' as is_completed, first_own_nth, last_own_nth
            from   (
                       select *,
                              count(*) filter (where slot is null) over (
                                  partition by command order by created_at, slot nulls first
                              ) as takes
                       from   (
                                  select   command, role, slot, ending, created_at,
                                           min(nth) filter (where number is not null)
                                               as first_own_nth,
                                           max(nth) filter (where number is not null)
                                               as last_own_nth
                                  from     event
                                  join     unclear using (command)
                                  where    slot is not null or role in ('claimed', 'started')
                                  group by command, role, slot, ending, created_at
                              ) as end_or_take
                   ) as counted
            where  slot is not null
        ),
        -- Splits the ends of each command into groups. An end begins a new group if it can't belong
        -- to the same attempt as the end before it. For example, a call ends only once in an
        -- attempt, so a second end of the same call begins a new group.
        grouped as (
            select *,
                   count(*) filter (where begins_group) over (
                       partition by command order by created_at, slot, ending
                       rows unbounded preceding
                   ) as nth_group
            from   (
                       select *,
                              coalesce(
                                  slot <= lag(slot) over in_order
                                  or role = 'ended'
                                     and (
                                         takes > lag(takes) over in_order
                                         or is_completed and not lag(is_completed) over in_order
                                     ),
                                  true
                              ) as begins_group
                       from   report
                       window in_order as (
                           partition by command order by created_at, slot, ending
                       )
                   ) as compared
        ),
        group_of_ends as (
            select   command, nth_group, min(first_own_nth) as own_nth,
                     max(last_own_nth) as last_own_nth, bool_and(is_completed) as is_completed
            from     grouped
            group by command, nth_group
        ),
        -- Selects the commands that have exactly one group of ends for each attempt. If the ends in
        -- a group name two attempts, or if two groups name the same attempt, the groups can't be
        -- right, so the command is left out. `free` lists the attempts that no group names.
        matched as (
            select   command,
                     array(
                         select generate_series(1, last_nth)
                         except
                         select unnest(array_agg(own_nth))
                         order by 1
                     ) as free
            from     group_of_ends
            join     unclear using (command)
            group by command, last_nth
            having   count(*) = last_nth
            and      count(own_nth) = count(distinct own_nth)
            and      count(*) filter (where own_nth < last_own_nth) = 0
        ),
        assigned as (
            select command, nth_group,
                   coalesce(
                       own_nth,
                       free[
                           row_number() over (
                               partition by command, own_nth is null
                               order by is_completed, nth_group
                           )
                       ]
                   ) as group_nth
            from   group_of_ends
            join   matched using (command)
        )
        select event_id, command, event.role, number, event.created_at, in_log, slot, ending,
               case when number is not null then nth else coalesce(group_nth, nth) end
        from   event
        left join grouped using (command, slot, ending)
        left join assigned using (command, nth_group);
end
$$;
