-- Corrects where in the log an attempt began, if its issue was recorded late (the last sentence of
-- rule R2 of resolve_attempts). Even without the issue, the log shows where that was. After an end
-- of the previous attempt, the command is claimed or started again, although that attempt already
-- had a claim or a start. The new attempt begins there. If an event was sent twice, only its first
-- record counts.
create or replace function projector.correct_begins(
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
            select * from unnest(correct_begins.attempts)
        ),
        -- Collects the ends, claims, and starts in the log, and the places in it at which attempts
        -- begin.
        step as (
            select   command, role, slot, min(in_log) as in_log,
                     slot is not null
                     and coalesce(
                             lead(slot) over (
                                 partition by command, role order by min(in_log), slot
                             ) <= slot,
                             true
                         ) as ends_attempt,
                     null::integer as begins_nth
            from     unnest(correct_begins.events)
            where    in_log is not null
            and      (slot is not null or role in ('claimed', 'started'))
            group by command, role, slot, created_at
            union all
            select command, null, null, in_log, null, nth
            from   attempt
            where  nth > 1
            and    in_log is not null
        ),
        -- Divides the log of each command into parts, each of which starts where an attempt is
        -- known to begin. Further attempts may have begun within a part, and the next step finds
        -- them.
        in_parts as (
            select *,
                   coalesce(max(begins_nth) over so_far, 1) as last_nth,
                   min(begins_nth) over (
                       partition by command order by in_log, begins_nth nulls last
                       rows between current row and unbounded following
                   ) as next_nth,
                   count(begins_nth) over so_far as part
            from   step
            window so_far as (
                       partition by command order by in_log, begins_nth nulls last
                       rows unbounded preceding
                   )
        ),
        -- Finds the turns, which are the claims and starts with which these further attempts began.
        -- The first turn in a part begins the attempt after the one with which the part starts, the
        -- second turn begins the attempt after that, and so on.
        turn as (
            select command, in_log, next_nth,
                   last_nth + row_number() over (partition by command, part order by in_log) as nth
            from   (
                       select *,
                              slot is null
                              and lag(ends_attempt) over (
                                  partition by command, part
                                  order by in_log, begins_nth nulls last
                              )
                              and row_number() over (
                                  partition by command, part, role order by in_log
                              ) > 1 as is_turn
                       from   in_parts
                   ) as followed
            where  is_turn
        )
        select attempt.command, attempt.nth, number, begun_at,
               coalesce(turn.in_log, attempt.in_log), issued_at
        from   attempt
        left join turn
               on  turn.command = attempt.command
               and turn.nth = attempt.nth
               -- A part of the log may have more turns than there are attempts. Leave out the last
               -- turns then, because no attempt is left that could have begun with them.
               and turn.nth <= coalesce(turn.next_nth, turn.nth);
end
$$;
