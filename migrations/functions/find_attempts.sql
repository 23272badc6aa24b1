-- Finds the attempts of commands whose events don't all name their attempt, and when each attempt
-- began (rules R1 and R2 of resolve_attempts). An issue is the event that issues an attempt. The
-- next function, correct_begins, corrects the attempts whose issues were recorded late. The steps:
--     1. find issues without a number. If one has the time of a numbered issue, it's another report
--        of that issue.
--     2. find the numbered attempts, and the event with which each of them begins
--     3. find the attempts that only an issue or an end reveals
--     4. find when each attempt began
create or replace function projector.find_attempts(events projector.call_event[])
    returns setof projector.call_attempt
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        with event as (
            select *,
                   slot is not null
                   and coalesce(
                           min(slot) over (
                               partition by command, number, role order by created_at, slot
                               groups between 1 following and 1 following
                           ) <= slot,
                           true
                       ) as ends_attempt
            from   unnest(find_attempts.events)
        ),
        -- 1. Issues without a number, in order.
        issue as (
            select command, created_at, in_log,
                   row_number() over (
                       partition by command
                       order by case when have_places then in_log end, created_at
                   ) as nth_issue
            from   (
                       select *,
                              bool_and(in_log is not null) over (partition by command)
                                  as have_places
                       from   (
                                  select   distinct on (command, created_at) *
                                  from     event
                                  where    role = 'issued'
                                  order by command, created_at, number nulls last,
                                           in_log nulls last
                              ) as issue_by_time
                       where  number is null
                   ) as unnumbered
        ),
        -- 2. The numbered attempts.
        numbered as (
            select   command, number, bool_or(role = 'issued') as is_issued,
                     min(created_at) filter (where role in ('claimed', 'started')) as taken_at,
                     min(created_at) filter (where ends_attempt) as ended_at,
                     min(created_at) as first_at
            from     event
            where    number is not null
            group by command, number
        ),
        numbered_begin as (
            select   distinct on (command, number) command, number, created_at, in_log
            from     event
            where    number is not null
            and      role in ('issued', 'claimed', 'started')
            order by command, number, role <> 'issued', created_at, in_log nulls last
        ),
        --     3. All attempts. `issues` is the number of events that issue an attempt without
        --        naming its number. `unissued` is the number of attempts that have a number, but
        --        weren't issued by an event with that number. Each of these attempts must have been
        --        issued by one of the events without a number. If there are more such events than
        --        that, each of the others reveals another attempt.
        known as (
            select command, coalesce(issues, 0) as issues, coalesce(unissued, 0) as unissued,
                   coalesce(declared, '{}') as declared, highest_issued
            from   (select distinct command from event) as command
            left join (
                select command, count(*) as issues from issue group by command
            ) as counted using (command)
            left join (
                select   command, array_agg(number) as declared,
                         count(*) filter (where not is_issued) as unissued,
                         case when bool_or(is_issued) then max(number) end as highest_issued
                from     numbered
                group by command
            ) as declared using (command)
        ),
        named as (
            select command, number
            from   numbered
            union all
            select command, free.number
            from   known
            cross join lateral (
                select   number
                from     generate_series(0, (cardinality(declared) + issues)::integer) as number
                where    number <> all(declared)
                order by number
                limit    greatest(issues - unissued, case when declared = '{}' then 1 else 0 end)
            ) as free
            where  highest_issued is null
            or     free.number < highest_issued
        ),
        attempt as (
            select command, number
            from   named
            union all
            -- The attempt before the first, if a worker numbers only retries.
            select command, number - 1
            from   (
                       select   distinct on (command) *
                       from     named
                       left join numbered using (command, number)
                       order by command, number
                   ) as first
            where  number > 0
            and    not is_issued
            and    exists (
                       select
                       from   event
                       where  event.command = first.command
                       and    event.number is null
                       and    event.slot is not null
                       and    event.created_at < first.taken_at
                   )
        ),
        -- 4. When each attempt began.
        begun as (
            select counted.command, number, nth, ended_at, first_at,
                   coalesce(numbered_begin.created_at, issue.created_at) as begun_at,
                   case when numbered_begin.created_at is null then issue.in_log
                        else numbered_begin.in_log
                   end as in_log,
                   issue.created_at as issued_at
            from   (
                       select *,
                              row_number() over (partition by command order by number) as nth,
                              case
                                  when not coalesce(is_issued, false)
                                  then row_number() over (
                                           partition by command, coalesce(is_issued, false)
                                           order by number
                                       )
                              end as nth_issue,
                              count(*) filter (where not coalesce(is_issued, false)) over (
                                  partition by command
                              ) as unissued
                       from   attempt
                       left join numbered using (command, number)
                   ) as counted
            left join numbered_begin using (command, number)
            join   known using (command)
            left join issue
                   on  issue.command = counted.command
                   and issue.nth_issue = counted.nth_issue
                   -- Each of these attempts was issued by an event without a number. If some of
                   -- these events are missing, nobody knows to which attempts the rest belong, so
                   -- assign none of them.
                   and known.issues >= counted.unissued
        )
        select command, nth::integer, number,
               coalesce(
                   begun_at,
                   lag(coalesce(ended_at, next_end_at)) over (
                       partition by command order by number
                   ) + interval '1 microsecond',
                   first_at
               ),
               in_log, issued_at
        from   (
                   select *,
                          min(at) filter (where number is null) over (
                              partition by command order by at desc, number nulls last
                              rows unbounded preceding
                          ) as next_end_at
                   from   (
                              -- Let the first attempt begin before all ends, because the first end
                              -- belongs to it, even if the clocks say that this end came earlier.
                              select *,
                                     case when nth = 1 then '-infinity' else begun_at end as at
                              from   begun
                              union all
                              select command, null, null, null, null, null, null, null,
                                     created_at
                              from   event
                              where  number is null
                              and    ends_attempt
                          ) as attempt_or_end
               ) as followed
        where  number is not null;
end
$$;
