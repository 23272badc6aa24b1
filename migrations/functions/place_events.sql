-- Finds the attempt to which each event belongs, for commands whose events don't all name their
-- attempt. An event that names its attempt belongs to that one. If an event issues an attempt
-- without a number, it belongs to the attempt that it issues. Any other event belongs to the last
-- attempt that had begun before the event (rule R3 of resolve_attempts).
create or replace function projector.place_events(
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
            select * from unnest(place_events.attempts)
        ),
        -- Sorts the events and the beginnings of attempts twice, once by the clocks and once by the
        -- log. If both an event and the beginning of an attempt are in the log, the log tells which
        -- of them came first, because the clocks of different workers may disagree. Otherwise only
        -- the clocks can tell.
        ordered as (
            select *,
                   max(begins_nth) over by_clock as nth_by_clock,
                   max(begins_nth) filter (where in_log is null) over by_clock
                       as nth_without_place,
                   max(begins_nth) over (
                       partition by command order by in_log, begins_nth nulls last
                       rows unbounded preceding
                   ) as nth_in_log
            from   (
                       select event.event_id, event.command, event.role, event.number,
                              event.created_at, event.in_log, event.slot, event.ending,
                              coalesce(own.nth, issued.nth) as known_nth,
                              null::integer as begins_nth, event.created_at as at,
                              -- This number sorts events that happened at the same time. An end
                              -- comes first (0), then the beginning of an attempt (1), and then any
                              -- other event (2). So an end still belongs to the previous attempt,
                              -- and any other event belongs to the new one.
                              case when event.slot is null then 2 else 0 end as at_once
                       from   unnest(place_events.events) as event
                       left join attempt as own
                              on  own.command = event.command
                              and own.number = event.number
                       left join attempt as issued
                              on  issued.command = event.command
                              and issued.issued_at = event.created_at
                              and event.number is null
                              and event.role = 'issued'
                       union all
                       select null, command, null, null, null, in_log, null, null, null, nth,
                              begun_at, 1
                       from   attempt
                       where  nth > 1
                   ) as event_or_begin
            window by_clock as (
                partition by command order by at, at_once, begins_nth rows unbounded preceding
            )
        ),
        placed as (
            select *,
                   coalesce(
                       known_nth,
                       case
                           when in_log is null then nth_by_clock
                           else greatest(nth_in_log, nth_without_place)
                       end,
                       1
                   ) as nth
            from   ordered
            where  begins_nth is null
        ),
        -- Some ends aren't in the log, although other events of their command are. By the clocks,
        -- such an end belongs to the last attempt that was claimed or started before it, among
        -- those attempts that have no other end.
        late_end as (
            select event_id,
                   max(lacking_nth) over (
                       partition by command order by created_at, lacking_nth nulls last
                       rows unbounded preceding
                   ) as nth_lacking
            from   (
                       select event_id, command, created_at, null::integer as lacking_nth
                       from   (
                                  select *,
                                         bool_or(in_log is not null) over (partition by command)
                                             as any_places
                                  from   placed
                              ) as event
                       where  any_places
                       and    slot is not null
                       and    number is null
                       and    in_log is null
                       union all
                       select   null, command,
                                min(created_at) filter (where role in ('claimed', 'started')), nth
                       from     placed
                       group by command, nth
                       having   count(*) filter (
                                    where slot is not null
                                    and   (in_log is not null or number is not null)
                                ) = 0
                   ) as end_or_attempt
        )
        select event_id, command, role, number, created_at, in_log, slot, ending,
               coalesce(nth_lacking, nth)
        from   placed
        left join late_end using (event_id);
end
$$;
