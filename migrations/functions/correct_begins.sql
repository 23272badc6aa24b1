-- Corrects where in the log an attempt began, if the event that issued it was recorded late (the
-- last sentence of rule R2 of resolve_attempts). The log shows the beginning even without that
-- event. If a command is claimed or started a second time after its previous attempt has ended, the
-- new attempt began with that claim or start. For example, if the log holds started, failed,
-- started, done, then the second attempt began with the second `started`. If an event was sent
-- twice, only its first record counts.
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
        -- Collects the events in the log that end, claim, or start an attempt, and the points in
        -- the log at which attempts are known to begin.
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
        -- Divides the log of each command into parts. Each part starts at a point where an attempt
        -- is known to begin. More attempts may have begun later in the same part, and the next step
        -- finds them.
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
        -- Finds the claims and starts with which more attempts began within a part. They're called
        -- turns here. For example, if a part starts with attempt 2, its first turn begins attempt
        -- 3, and its second turn begins attempt 4.
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
               -- A part of the log may have more turns than there are attempts that could have
               -- begun in it. In that case, ignore the turns beyond `next_nth`, which is the
               -- attempt that begins the next part.
               and turn.nth <= coalesce(turn.next_nth, turn.nth);
end
$$;
