-- Moves ends to other attempts if several fall into the same slot (rule R4 of resolve_attempts). An
-- attempt has one slot for the end of its command, and one slot for the end of each of its calls.
-- Only one of the ends in a slot can belong to the attempt, so the others move to attempts whose
-- slot is still free.
create or replace function projector.spread_ends(
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
            select * from unnest(spread_ends.events)
        ),
        -- The attempts whose slot no numbered end takes, in order.
        slot as (
            select command, slot,
                   array(
                       select generate_series(1, last_nth) except select unnest(taken) order by 1
                   ) as free
            from   (
                       select   command, slot,
                                array_agg(nth) filter (where number is not null) as taken
                       from     event
                       where    slot is not null
                       group by command, slot
                   ) as used
            join   (
                       select   command, max(nth) as last_nth
                       from     unnest(spread_ends.attempts)
                       group by command
                   ) as counted using (command)
        ),
        -- Lists each end once, even if several events report it. If at least one of these events
        -- names an attempt, the end belongs to that attempt.
        report as (
            select   command, slot, ending, min(nth) as nth,
                     min(nth) filter (where number is not null) as own_nth
            from     event
            where    slot is not null
            group by command, slot, ending
        ),
        -- Numbers the ends in each slot that don't name an attempt, from 1 (`place`). The free
        -- attempts are those whose slot no other end has taken by name. `nth_free` is the position
        -- of the end's current attempt in the list of free attempts. `surplus` is how many ends are
        -- left over if each free attempt gets one.
        ranked as (
            select command, slot, ending, nth_free,
                   row_number() over (partition by command, slot order by nth_free, ending)
                       as place,
                   greatest(count(*) over (partition by command, slot) - free_attempts, 0)
                       as surplus
            from   (
                       select command, slot, ending, cardinality(free) as free_attempts,
                              greatest(width_bucket(nth, free), 1) as nth_free
                       from   report
                       join   slot using (command, slot)
                       where  own_nth is null
                       and    free <> '{}'
                   ) as unnumbered
        ),
        -- Gives each end a free attempt of its own, as long as there are enough. `nearest` is the
        -- latest attempt, up to its current one, that leaves an attempt for each later end. So
        -- earlier ends move to earlier attempts. If that would go below the first attempt, `place -
        -- surplus` counts up from the first one instead. For example, if three ends fall into the
        -- first of three attempts, they get attempts 1, 2, and 3. If there were a fourth end, two
        -- ends would share the first attempt.
        spread as (
            select command, slot, ending, greatest(nearest, place - surplus, 1) as nth_given
            from   (
                       select *,
                              place + min(nth_free - place) over (
                                  partition by command, slot order by place desc
                                  rows unbounded preceding
                              ) as nearest
                       from   ranked
                   ) as packed
        )
        select event_id, command, role, number, created_at, in_log, slot, ending,
               case
                   when number is not null then event.nth
                   else coalesce(own_nth, free[nth_given], event.nth)
               end
        from   event
        left join report using (command, slot, ending)
        left join spread using (command, slot, ending)
        left join slot using (command, slot);
end
$$;
