-- Assigns each event to an attempt of its command. `events` are all stored events of commands in
-- doubt, by the rules R1 to R5 that find_attempts lists:
--     1. find the attempts, and when each began (find_attempts)
--     2. assign an event by its number, else by the issue that it is, else to the last attempt that
--        had begun before it. If an end has no place but others have one, assign it to the last
--        attempt before it that has neither an end with a place nor a numbered one.
--     3. count two reports of the same end once, and group the ends
--     4. if several ends fall into one slot (an attempt has one end of its command, and one of each
--        of its calls), move them to attempts whose slot is free
--     5. if a command lacks a place or an end, and has as many groups of ends as attempts, each
--        group is an attempt
create or replace function projector.resolve_attempts(events projector.call_event[])
    returns table (event_id bigint, attempts integer)
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
    set enable_hashjoin = on
    set enable_nestloop = off
as $$
#variable_conflict use_column
begin
    -- Most commands are not in doubt, and starting the query costs more than all of aggregate_calls.
    if cardinality(resolve_attempts.events) = 0 then
        return;
    end if;
    return query
        with begun as (
            select execution_id, command_id collate "C" as command_id, number, nth, begun_at,
                   issued_at, in_log
            from   find_attempts(resolve_attempts.events)
        ),
        doubtful as (
            select event.event_id, event.execution_id, event.command_id collate "C" as command_id,
                   event.created_at, event.in_log,
                   event.reporter collate "C" as slot, event.call_index,
                   end_rank(
                       event.reporter, encode_time(event.created_at),
                       call_outcome(event.outcome_ranked)
                   ) collate "C" as ending,
                   event.event_class collate "C" as event_class, event.role, own.nth as own_nth,
                   issued.nth as issued_nth
            from   unnest(resolve_attempts.events) as event
            left join begun as own
                   on  own.execution_id = event.execution_id
                   and own.command_id = event.command_id collate "C"
                   and own.number = event.number
            left join begun as issued
                   on  issued.execution_id = event.execution_id
                   and issued.command_id = event.command_id collate "C"
                   and issued.issued_at = event.created_at
                   and event.number is null
                   and event.role = 'issued'
        ),
        -- 2. The attempt of each event.
        ordered as (
            select *,
                   coalesce(
                       own_nth, issued_nth,
                       case
                           when in_log is null then nth_by_clock
                           else greatest(nth_in_log, nth_without_place)
                       end,
                       1
                   ) as nth
            from   (
                       select *,
                              max(begins_nth) over by_clock as nth_by_clock,
                              max(begins_nth) filter (where in_log is null) over by_clock
                                  as nth_without_place,
                              max(begins_nth) over (
                                  partition by execution_id, command_id
                                  order by in_log, begins_nth nulls last rows unbounded preceding
                              ) as nth_in_log
                       from   (
                                  select *, null::bigint as begins_nth, created_at as at,
                                         -- At one time, an end comes first, then the begin of an
                                         -- attempt (1), then all else.
                                         case when slot is null then 2 else 0 end as at_once
                                  from   doubtful
                                  union all
                                  select null, execution_id, command_id, null, in_log, null, null,
                                         null, null, null, null, null, nth, begun_at, 1
                                  from   begun
                                  where  nth > 1
                              ) as moment
                       window by_clock as (
                           partition by execution_id, command_id
                           order by at, at_once, begins_nth rows unbounded preceding
                       )
                   ) as in_order
            where  begins_nth is null
        ),
        late_end as (
            select event_id,
                   max(lacking_nth) over (
                       partition by execution_id, command_id
                       order by created_at, lacking_nth nulls last rows unbounded preceding
                   ) as nth_lacking
            from   (
                       select event_id, execution_id, command_id, created_at,
                              null::bigint as lacking_nth
                       from   (
                                  select *,
                                         count(in_log) over (
                                             partition by execution_id, command_id
                                         ) > 0 as is_placed
                                  from   ordered
                              ) as event
                       where  is_placed
                       and    slot is not null
                       and    own_nth is null
                       and    in_log is null
                       union all
                       select   null, execution_id, command_id,
                                min(created_at) filter (where role in ('claimed', 'started')), nth
                       from     ordered
                       group by execution_id, command_id, nth
                       having   count(coalesce(in_log[1], own_nth)) filter (where slot is not null)
                                = 0
                   ) as end_or_attempt
        ),
        positioned as (
            select event_id, execution_id, command_id, created_at, in_log, slot, call_index, ending,
                   event_class, role, own_nth, coalesce(nth_lacking, nth) as nth
            from   ordered
            left join late_end using (event_id)
        ),
        -- 3. Ends, each once.
        report as (
            select   execution_id, command_id, slot, call_index, ending, event_class,
                     min(own_nth) as own_nth, max(own_nth) as last_own_nth, min(nth) as nth,
                     min(created_at) as created_at, call_outcome(ending) = 'COMPLETED' as is_completed
            from     positioned
            where    slot is not null
            group by execution_id, command_id, slot, call_index, ending, event_class
        ),
        command as (
            select   execution_id, command_id, count(*) as tries
            from     begun
            group by execution_id, command_id
        ),
        grouped as (
            select *, count(*) filter (where begins_group) over in_order as nth_group
            from   (
                       select *,
                              slot is not null and coalesce(
                                  lag(slot) over ends = '1'
                                  or case slot
                                         when '0' then call_index <= lag(call_index) over ends
                                         else takes > lag(takes) over ends
                                              or is_completed and not lag(is_completed) over ends
                                     end,
                                  true
                              ) as begins_group
                       from   (
                                  select *,
                                         count(*) filter (where slot is null) over (
                                             partition by execution_id, command_id
                                             order by created_at, slot nulls first
                                         ) as takes
                                  from   (
                                             select *
                                             from   report
                                             union all
                                             select execution_id, command_id, null, null, null,
                                                    null, null, null, null, created_at, null
                                             from   doubtful
                                             where  role in ('claimed', 'started')
                                         ) as end_or_take
                              ) as counted
                       window ends as (
                           partition by execution_id, command_id, slot is null
                           order by created_at, slot, call_index, ending, event_class
                       )
                   ) as ordered
            window in_order as (
                partition by execution_id, command_id
                order by created_at, slot nulls first, call_index, ending, event_class
                rows unbounded preceding
            )
        ),
        -- 4. Ends of one slot.
        own as (
            select distinct execution_id, command_id, slot, call_index, own_nth as nth
            from   positioned
            where  slot is not null
            and    own_nth is not null
        ),
        -- The attempts whose slot is free, numbered by `nth_free`.
        free as (
            select execution_id, command_id, slot, call_index, nth,
                   row_number() over (
                       partition by execution_id, command_id, slot, call_index order by nth
                   ) as nth_free
            from   (select distinct execution_id, command_id, slot, call_index from own) as partly
            join   begun using (execution_id, command_id)
            left join (select *, true as is_own from own) as taken
                   using (execution_id, command_id, slot, call_index, nth)
            where  is_own is null
        ),
        -- The other ends of a slot, numbered by `place`. `nth_free` of an end is its attempt,
        -- counted among the free ones. `surplus` is how many more ends than free attempts there are.
        ranked as (
            select *,
                   row_number() over (
                       partition by execution_id, command_id, slot, call_index
                       order by nth_free, ending, event_class
                   ) as place,
                   greatest(
                       count(*) over (partition by execution_id, command_id, slot, call_index)
                       - frees,
                       0
                   ) as surplus
            from   (
                       select *, greatest(nth - owns_before, 1) as nth_free, tries - owns as frees
                       from   (
                                  select *, nth as nth_before, event_class is null as is_own,
                                         count(*) filter (where event_class is null) over (
                                             partition by execution_id, command_id, slot,
                                                          call_index
                                             order by nth
                                         ) as owns_before,
                                         count(*) filter (where event_class is null) over (
                                             partition by execution_id, command_id, slot,
                                                          call_index
                                         ) as owns
                                  from   (
                                             select execution_id, command_id, slot, call_index,
                                                    ending, event_class, own_nth, nth
                                             from   report
                                             where  own_nth is null
                                             union all
                                             select execution_id, command_id, slot, call_index,
                                                    null, null, nth, nth
                                             from   own
                                         ) as end_or_own
                              ) as counted
                       join   command using (execution_id, command_id)
                       where  not is_own
                       and    tries > owns
                   ) as freed
        ),
        -- R4: each end gets an attempt of its own. `nearest` is the latest one that leaves an
        -- attempt for each later end, so earlier ends move to attempts before. Where none are left
        -- before, `place - surplus` counts from the first attempt on, so the later ends move to
        -- attempts after. For example, three ends in the first of three attempts go to 1, 2, and 3.
        -- A fourth one would share the first attempt.
        spread as (
            select *, greatest(nearest, place - surplus, 1) as nth_given
            from   (
                       select *,
                              min(nth_free - place) over (
                                  partition by execution_id, command_id, slot, call_index
                                  order by place desc rows unbounded preceding
                              ) + place as nearest
                       from   ranked
                   ) as packed
        ),
        assigned as (
            select positioned.event_id, positioned.execution_id, positioned.command_id,
                   positioned.slot, positioned.in_log, positioned.own_nth, report.nth_group,
                   coalesce(
                       positioned.own_nth, report.own_nth, free.nth, spread.nth_given,
                       positioned.nth
                   ) as nth
            from   positioned
            left join grouped as report
                   on  report.execution_id = positioned.execution_id
                   and report.command_id = positioned.command_id
                   and report.slot = positioned.slot
                   and report.call_index = positioned.call_index
                   and report.ending = positioned.ending
                   and report.event_class = positioned.event_class
            left join spread
                   on  spread.execution_id = report.execution_id
                   and spread.command_id = report.command_id
                   and spread.slot = report.slot
                   and spread.call_index = report.call_index
                   and spread.ending = report.ending
                   and spread.event_class = report.event_class
            left join free
                   on  free.execution_id = spread.execution_id
                   and free.command_id = spread.command_id
                   and free.slot = spread.slot
                   and free.call_index = spread.call_index
                   and free.nth_free = spread.nth_given
        ),
        -- 5. Groups of ends. None names two attempts, and no two name the same.
        group_of_ends as (
            select   execution_id, command_id, nth_group, min(own_nth) as own_nth,
                     max(last_own_nth) as last_own_nth, bool_and(is_completed) as is_completed
            from     grouped
            where    slot is not null
            group by execution_id, command_id, nth_group
        ),
        lacking as (
            select   execution_id, command_id
            from     assigned
            join     command using (execution_id, command_id)
            group by execution_id, command_id, tries
            having   count(in_log) < count(*)
            or       count(distinct nth) filter (where slot is not null and nth < tries) < tries - 1
        ),
        grouped_command as (
            select   execution_id, command_id
            from     lacking
            join     command using (execution_id, command_id)
            join     group_of_ends using (execution_id, command_id)
            group by execution_id, command_id, tries
            having   count(*) = tries
            and      count(own_nth) = count(distinct own_nth)
            and      count(*) filter (where own_nth < last_own_nth) = 0
        ),
        attempt as (
            select execution_id, command_id, nth_group, coalesce(own_nth, unnamed.nth) as nth
            from   (
                       select *,
                              row_number() over (
                                  partition by execution_id, command_id, own_nth is null
                                  order by is_completed, nth_group
                              ) as nth_unnamed
                       from   grouped_command
                       join   group_of_ends using (execution_id, command_id)
                   ) as counted
            left join (
                select execution_id, command_id, nth,
                       row_number() over (
                           partition by execution_id, command_id order by nth
                       ) as nth_unnamed
                from   (
                           select execution_id, command_id, nth from begun
                           except
                           select execution_id, command_id, own_nth from group_of_ends
                       ) as free
            ) as unnamed using (execution_id, command_id, nth_unnamed)
        )
        select assigned.event_id, begun.number
        from   assigned
        left join attempt
               on  attempt.execution_id = assigned.execution_id
               and attempt.command_id = assigned.command_id
               and attempt.nth_group = assigned.nth_group
        join   begun
               on  begun.execution_id = assigned.execution_id
               and begun.command_id = assigned.command_id
               and begun.nth = coalesce(assigned.own_nth, attempt.nth, assigned.nth);
end
$$;
