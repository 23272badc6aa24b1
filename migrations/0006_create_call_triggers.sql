-- How attempts follow the events of their command. When an event arrives, changes or is deleted,
-- the command is rebuilt from all its stored events. One case is cheaper: a new event
-- of a command that has only its first attempt is merged into that attempt.
--
-- Some events don't say which attempt they are of (their attempts were defaulted). Rules for
-- these:
--     1. An attempt is known by a number, or by an issue of its own: an issue without a number is
--        of the lowest attempt that nobody names. Where other issues have numbers, it's only of one
--        below the highest of them. If the first numbered attempt is a retry that nobody issued,
--        and an end without a number came before its claim or start, there's one before it.
--     2. An attempt begins at its numbered issue, else at its first numbered claim or start, else
--        at its issue without a number, else just after the end of the attempt before.
--     3. The event is of the last attempt that had begun before it (an issue, claim, or start: also
--        at the same time), or of the first attempt if none had. Their places in the log tell
--        what came first, if all events of the command with a place lie in one log. Otherwise the
--        clocks of the producers do.
--     4. An attempt has one end of its command, and one of each of its calls (by call_index). If
--        several without a number fall into one attempt, the earlier ones go to attempts before it
--        that have none, or else the later ones to attempts after it. A completion is the last of
--        them, because only failures are retried.
-- An attempt ends when its last call does: an end that one with a greater call_index follows does
-- not end it. deploy/calls.py follows the same rules.

-- Says what one event tells about its call, for the trigger, repair, and verify alike. `role` and
-- `type_outcome` come from event_kinds. `reporter` is 0 if the call itself reports its end, and 1
-- if its command does. If the event is no end, then reporter, outcome, duration, and error are
-- null. The rank of an error is that of its end (end_rank), and only an end that failed has one.
-- The rank of a duration is who reported it and when (0002_create_projector.sql explains ranked
-- values). PostgreSQL inlines this function, as it does report_on_execution.
create function projector.report_on_call(
    role text, type_outcome text, status text, created_at timestamptz, evidence smallint,
    step text, worker_id text, max_attempts integer, duration double precision, error text,
    context jsonb, result jsonb
)
    returns table (
        reporter text, outcome_ranked text, duration_ranked text, error_ranked text,
        step_ranked text, worker_ranked text, max_attempts_ranked text
    )
    language sql immutable parallel safe rows 1
begin atomic
    select said.reporter,
           projector.end_rank(said.reporter, said.moment, said.outcome)
           || case when evidence >= 100 then '0' else '1' end,
           -- Whole microseconds, so that a sum can be reduced exactly. No call lasts over 30 days.
           case
               when duration between 0 and 2592000
               then said.reporter || said.moment
                    || projector.encode_bigint(round(duration * 1000000)::bigint)
           end,
           case
               when said.outcome <> 'COMPLETED' and error <> ''
               then projector.end_rank(said.reporter, said.moment, said.outcome)
                    || left(error, 1000)
           end,
           case when step <> '' then said.moment || step end,
           case when worker_id <> '' then said.moment || worker_id end,
           said.moment || projector.encode_bigint(max_attempts)
    from   (
               select projector.encode_time(created_at) as moment,
                      case
                          when status in ('COMPLETED', 'FAILED', 'ERROR', 'CANCELLED') then status
                          else type_outcome
                      end as outcome,
                      -- A completion may hand the call over to a callback. It says so in
                      -- `context`, or in `result.context`, where servers keep the worker's
                      -- context. Workers before 5.93.0 don't say it.
                      case
                          when role = 'done' then '0'
                          when role = 'ended' and not (
                              type_outcome = 'COMPLETED'
                              and (
                                  coalesce(context @> '{"pending_callback": true}', false)
                                  or coalesce(
                                         result @> '{"context": {"pending_callback": true}}', false
                                     )
                              )
                          ) then '1'
                      end as reporter
               offset 0
           ) as said;
end;

-- Which call of its command an end is of: an integer in its context, or in that of the result.
create function projector.call_index_of(context jsonb, result jsonb) returns integer
    language sql immutable parallel safe
    return coalesce(
        substring((context -> 'call_index')::text from '^[0-9]{1,9}$')::integer,
        substring((result -> 'context' -> 'call_index')::text from '^[0-9]{1,9}$')::integer,
        0
    );


create type projector.call_command as (
    execution_id bigint,
    command_id   text
);

-- Whether the place of an event's record in its log tells when the event happened. It doesn't if the
-- record came late, nor if another record reports the event in another log, or before it in this
-- one (merge_flags): the row has the coordinates of the record that was read first.
create function projector.knows_its_place(
    created_at timestamptz, recorded_at timestamptz, merge_flags smallint
)
    returns boolean
    -- `stable`, as the sum of a time and an interval is. An immutable function is not inlined then.
    language sql stable parallel safe
    return coalesce(recorded_at < created_at + interval '5 seconds', false)
           and merge_flags & 32 = 0;

-- The stored events of these commands.
create function projector.stored_call_events(commands projector.call_command[])
    returns setof projector.call_event
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    return query
        select event.event_id, event.execution_id, event.command_id, kind.event_class,
               kind.role, said.reporter, case when event.evidence >= 100 then event.attempts end,
               event.created_at, said.outcome_ranked, said.duration_ranked, said.error_ranked,
               said.step_ranked, said.worker_ranked, said.max_attempts_ranked, event.iteration,
               case
                   when kind.role = 'done' then call_index_of(event.context, event.result) else 0
               end,
               place.log, place.in_log
        from   unnest(stored_call_events.commands) as wanted
        cross join lateral (
            select *
            from   normalizer.events as stored
            where  stored.execution_id + 0 = wanted.execution_id
            and    hashtext(stored.command_id) = hashtext(wanted.command_id)
            and    stored.command_id = wanted.command_id
            offset 0
        ) as event
        join   event_kinds as kind on kind.event_type = event.event_type
        cross join lateral report_on_call(
            kind.role, kind.outcome, event.status, event.created_at, event.evidence, event.step,
            event.worker_id, event.max_attempts, event.duration, event.error, event.context,
            event.result
        ) as said
        left join lateral (
            select event.source_topic || ':' || event.source_incarnation || ':'
                   || event.source_partition as log,
                   array[event.source_offset, event.source_index] as in_log
        ) as place on knows_its_place(event.created_at, event.recorded_at, event.merge_flags)
        where  kind.subject = 'call';
end
$$;


-- Finds the attempts of commands in doubt, in order (`nth`, from 1), and when each began. `events`
-- are all events of those commands. These are rules 1 and 2 above:
--     1. issues without a number, in order, at times at which no numbered one was
--     2. the numbered attempts, and what they begin with
--     3. the attempts of all other issues, and one before the first
--     4. when each attempt began; `issued_at` is the time of its issue if that has no number
create function projector.find_attempts(events projector.call_event[])
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
                   in_log, reporter is not null as is_end,
                   reporter is not null
                   and coalesce(
                           lead(call_index) over (
                               partition by execution_id, command_id collate "C", number, reporter
                               order by created_at, call_index
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
        )
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
                              select *, case when nth = 1 then '-infinity' else begun_at end as at
                              from   begun
                              union all
                              select execution_id, command_id, null, null, null, null, null, null,
                                     null, created_at
                              from   doubtful
                              where  number is null
                              and    ends_attempt
                          ) as moment
               ) as followed
        where  number is not null
        window command as (partition by execution_id, command_id order by number);
end
$$;


-- Decides which attempt each event of commands in doubt is of. `events` are all events of those
-- commands. The steps are those of the rules above:
--     1. find the attempts, and when each began (find_attempts)
--     2. assign each event to an attempt: by its number, by the issue that it is, or by what had
--        begun before it
--     3. spread ends of one slot (an attempt has one of each) over attempts that have none. An end
--        that is reported twice is one end.
create function projector.resolve_attempts(events projector.call_event[])
    returns table (event_id bigint, attempts integer)
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
    set enable_hashjoin = on
    set enable_nestloop = off
as $$
#variable_conflict use_column
begin
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
                   left(event.outcome_ranked, 20) collate "C" as ending,
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
        positioned as (
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
                   ) as ordered
            where  begins_nth is null
        ),
        -- 3. Ends of one slot, each once.
        report as (
            select   execution_id, command_id, slot, call_index, ending, event_class,
                     min(own_nth) as own_nth, min(nth) as nth
            from     positioned
            where    slot is not null
            group by execution_id, command_id, slot, call_index, ending, event_class
        ),
        own as (
            select distinct execution_id, command_id, slot, call_index, own_nth as nth
            from   positioned
            where  slot is not null
            and    own_nth is not null
        ),
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
                                             select *
                                             from   report
                                             where  own_nth is null
                                             union all
                                             select execution_id, command_id, slot, call_index,
                                                    null, null, nth, nth
                                             from   own
                                         ) as end_or_own
                              ) as counted
                       join   (
                                  select   execution_id, command_id, count(*) as tries
                                  from     begun
                                  group by execution_id, command_id
                              ) as command using (execution_id, command_id)
                       where  not is_own
                       and    tries > owns
                   ) as freed
        ),
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
        )
        select positioned.event_id, begun.number
        from   positioned
        left join report
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
        join   begun
               on  begun.execution_id = positioned.execution_id
               and begun.command_id = positioned.command_id
               and begun.nth = coalesce(
                       positioned.own_nth, report.own_nth, free.nth, spread.nth_given,
                       positioned.nth
                   );
end
$$;


-- The events of these commands, each with the attempt that it is of. `may_be_retried`: whether
-- anything hints at a second attempt of the command, which is a number, or two issues, claims, or
-- starts. This and other functions that every batch calls are plpgsql, because an SQL function would
-- be planned each time.
create function projector.call_events_by_attempt(commands projector.call_command[])
    returns table (
        event_id bigint, execution_id bigint, command_id text, event_class text, role text,
        reporter text, number integer, created_at timestamptz, outcome_ranked text,
        duration_ranked text, error_ranked text, step_ranked text, worker_ranked text,
        max_attempts_ranked text, iteration integer, attempts integer, may_be_retried boolean
    )
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
    set enable_hashjoin = on
as $$
#variable_conflict use_column
begin
    return query
        with event as materialized (
            select *,
                   is_numbered or bool_or(is_repeated) over (
                       partition by execution_id, command_id collate "C"
                   ) as may_be_retried,
                   any_unnumbered and (
                       is_numbered or bool_or(is_repeated and role = 'issued') over (
                           partition by execution_id, command_id collate "C"
                       )
                   ) as in_doubt
            from   (
                       select reported.*,
                              coalesce(max(number) over command > 0, false) as is_numbered,
                              bool_or(number is null) over command as any_unnumbered,
                              min(log) over command = max(log) over command as in_one_log,
                              role in ('issued', 'claimed', 'started')
                              and min(created_at) over role < max(created_at) over role
                                  as is_repeated
                       from   stored_call_events(call_events_by_attempt.commands) as reported
                       window command as (partition by execution_id, command_id collate "C"),
                              role as (
                                  partition by execution_id, command_id collate "C", role
                              )
                   ) as counted
        ),
        resolved as (
            select *
            from   resolve_attempts(
                       array(
                           select (
                                      event_id, execution_id, command_id, event_class, role,
                                      reporter, number, created_at, outcome_ranked,
                                      duration_ranked, error_ranked, step_ranked, worker_ranked,
                                      max_attempts_ranked, iteration, call_index, log,
                                      case when in_one_log then in_log end
                                  )::call_event
                           from   event
                           where  in_doubt
                       )
                   )
        )
        select event.event_id, execution_id, command_id, event_class, role, reporter, number,
               created_at, outcome_ranked, duration_ranked, error_ranked, step_ranked,
               worker_ranked, max_attempts_ranked, iteration,
               coalesce(resolved.attempts, number, 0), may_be_retried
        from   event
        left join resolved on resolved.event_id = event.event_id;
end
$$;


-- The attempts of these commands, from their stored events. Each attempt keeps the least of each
-- ranked value. project_calls does the same with new events.
create function projector.aggregate_calls(commands projector.call_command[])
    returns table (
        execution_id bigint, command_id text, attempts integer, begun_at timestamptz,
        issued_at timestamptz, claimed_at timestamptz, started_at timestamptz, outcome_ranked text,
        duration_ranked text, error_ranked text, step_ranked text, worker_ranked text,
        max_attempts_ranked text, iteration integer, is_numbered boolean, may_be_retried boolean
    )
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        select   execution_id, command_id collate "C", attempts, min(created_at),
                 min(created_at) filter (where role = 'issued'),
                 min(created_at) filter (where role = 'claimed'),
                 min(created_at) filter (where role = 'started'),
                 min(outcome_ranked collate "C"), min(duration_ranked collate "C"),
                 min(error_ranked collate "C"), min(step_ranked collate "C"),
                 min(worker_ranked collate "C"), min(max_attempts_ranked collate "C"),
                 min(iteration), bool_or(number is not null), bool_or(may_be_retried)
        from     call_events_by_attempt(aggregate_calls.commands)
        group by execution_id, command_id collate "C", attempts;
end
$$;


-- Rebuilds the attempts of these commands. `touched` are the attempts that they had or have,
-- `linked` those that now are retries, or failed: a retry is linked to the failure before it.
create function projector.rebuild_calls(
    commands projector.call_command[],
    out touched projector.call_id[], out linked projector.call_id[]
)
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    with aggregated as materialized (
        select * from aggregate_calls(rebuild_calls.commands)
    ),
    gone as (
        delete from call_facts as known
        using  (
                   select stored.execution_id, stored.command_id, stored.attempts
                   from   unnest(rebuild_calls.commands) as wanted
                   cross join lateral (
                       select *
                       from   call_facts
                       where  call_facts.execution_id = wanted.execution_id
                       and    call_facts.command_id = wanted.command_id collate "C"
                       offset 0
                   ) as stored
                   except
                   select execution_id, command_id collate "C", attempts from aggregated
               ) as old
        where  known.execution_id = old.execution_id
        and    known.command_id = old.command_id
        and    known.attempts = old.attempts
        returning known.execution_id, known.command_id, known.attempts, false as is_linked
    ),
    written as (
        insert into call_facts as known (
            execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
            finished_at, outcome_ranked, duration_ranked, error_ranked, step_ranked, worker_ranked,
            max_attempts_ranked, iteration, is_numbered, may_be_retried
        )
        select   execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
                 call_finished_at(outcome_ranked), outcome_ranked, duration_ranked, error_ranked,
                 step_ranked, worker_ranked, max_attempts_ranked, iteration, is_numbered,
                 may_be_retried
        from     aggregated
        order by execution_id, command_id collate "C", attempts
        on conflict (execution_id, command_id, attempts)
        do update set
            begun_at            = excluded.begun_at,
            issued_at           = excluded.issued_at,
            claimed_at          = excluded.claimed_at,
            started_at          = excluded.started_at,
            finished_at         = excluded.finished_at,
            outcome_ranked      = excluded.outcome_ranked,
            duration_ranked     = excluded.duration_ranked,
            error_ranked        = excluded.error_ranked,
            step_ranked         = excluded.step_ranked,
            worker_ranked       = excluded.worker_ranked,
            max_attempts_ranked = excluded.max_attempts_ranked,
            iteration           = excluded.iteration,
            is_numbered         = excluded.is_numbered,
            may_be_retried      = excluded.may_be_retried
        returning execution_id, command_id, attempts,
                  attempts > 0 or coalesce(call_failed(outcome_ranked), false) as is_linked
    )
    select array_agg((execution_id, command_id, attempts)::call_id),
           array_agg((execution_id, command_id, attempts)::call_id) filter (where is_linked)
    into   touched, linked
    from   (select * from gone union all select * from written) as touched_call;
end
$$;


-- A failed attempt, with the key that retries find it by: step, and iteration or -1.
create type projector.call_failure as (
    execution_id bigint,
    command_id   text,
    attempts     integer,
    step         text,
    iteration    integer,
    finished_at  timestamptz
);


-- Finds attempts whose `failed_before` may be wrong.
--
-- The failure before a retry is the last failure that ended before the retry began, with one
-- attempt less, of the same command or of the same step and iteration. `changed` are the retries
-- and failures that changed. `old_failures` are the failures among them as they were before the
-- change. A retry that did not change itself stores a failure that is gone, or misses a new one.
-- It lies before the failure that follows those, so the search ends there:
--     1. find failures that are new, and those that are gone
--     2. the changed attempts, and the next attempt of each command
--     3. retries of the same step and iteration between such a failure and the next
--
-- `offset 0` makes each lookup use its key. Without it, a plan that was made while there were no
-- retries would later read all of them.
create function projector.retry_candidates(
    changed projector.call_id[], old_failures projector.call_failure[]
)
    returns setof projector.call_id
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        -- 1. Failures that are new or gone.
        with old as (
            select execution_id, command_id collate "C", attempts, step collate "C", iteration,
                   finished_at
            from   unnest(retry_candidates.old_failures)
        ),
        new as (
            select changed.execution_id, changed.command_id collate "C", changed.attempts,
                   ranked_value(failure.step_ranked) as step,
                   coalesce(failure.iteration, -1) as iteration, failure.finished_at
            from   unnest(retry_candidates.changed) as changed
            cross join lateral (
                select *
                from   call_facts as failure
                where  failure.execution_id = changed.execution_id
                and    failure.command_id = changed.command_id collate "C"
                and    failure.attempts = changed.attempts
                offset 0
            ) as failure
            where  call_failed(failure.outcome_ranked)
        ),
        moved as (
            (select * from new except select * from old)
            union all
            (select * from old except select * from new)
        )
        -- 2. The changed attempts, and the next attempt of each command.
        select changed.execution_id, changed.command_id, changed.attempts
        from   unnest(retry_candidates.changed) as changed
        union
        select changed.execution_id, changed.command_id, changed.attempts + 1
        from   unnest(retry_candidates.changed) as changed
        union
        select was.execution_id, was.command_id, was.attempts + 1
        from   unnest(retry_candidates.old_failures) as was
        union
        -- 3. Retries of the same step and iteration.
        select retried.execution_id, retried.command_id, retried.attempts
        from   moved
        left join lateral (
            select   failure.finished_at
            from     call_facts as failure
            where    failure.execution_id = moved.execution_id
            and      ranked_value(failure.step_ranked) = moved.step
            and      coalesce(failure.iteration, -1) = moved.iteration
            and      failure.attempts = moved.attempts
            and      failure.finished_at > moved.finished_at
            and      call_failed(failure.outcome_ranked)
            order by failure.finished_at
            limit    1
        ) as next on true
        cross join lateral (
            select *
            from   call_facts as retried
            where  retried.execution_id = moved.execution_id
            and    ranked_value(retried.step_ranked) = moved.step
            and    coalesce(retried.iteration, -1) = moved.iteration
            and    retried.attempts = moved.attempts + 1
            and    retried.begun_at >= moved.finished_at
            and    retried.begun_at < coalesce(next.finished_at, 'infinity')
            and    retried.attempts > 0
            offset 0
        ) as retried
        where  retried.failed_before is null
        or     retried.failed_before <= moved.finished_at;
end
$$;


-- Retries whose stored `failed_before` is wrong, with the right value. See retry_candidates for the
-- arguments.
create function projector.stale_retry_links(
    changed projector.call_id[], old_failures projector.call_failure[]
)
    returns table (
        execution_id bigint, command_id text, attempts integer, failed_before timestamptz
    )
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        select known.execution_id, known.command_id, known.attempts, failure.finished_at
        from   retry_candidates(stale_retry_links.changed, stale_retry_links.old_failures)
                   as candidate
        cross join lateral (
            select *
            from   call_facts as known
            where  known.execution_id = candidate.execution_id
            and    known.command_id = candidate.command_id collate "C"
            and    known.attempts = candidate.attempts
            offset 0
        ) as known
        cross join lateral (
            select max(finished_at) as finished_at
            from   (
                       select failure.finished_at
                       from   (
                                  select *
                                  from   call_facts
                                  where  call_facts.execution_id = known.execution_id
                                  and    call_facts.command_id = known.command_id
                                  and    call_facts.attempts = known.attempts - 1
                                  offset 0
                              ) as failure
                       where  failure.finished_at <= known.begun_at
                       and    call_failed(failure.outcome_ranked)
                       union all
                       (
                           select   failure.finished_at
                           from     call_facts as failure
                           where    failure.execution_id = known.execution_id
                           and      ranked_value(failure.step_ranked)
                                    = ranked_value(known.step_ranked)
                           and      coalesce(failure.iteration, -1) = coalesce(known.iteration, -1)
                           and      failure.attempts = known.attempts - 1
                           and      failure.finished_at <= known.begun_at
                           and      call_failed(failure.outcome_ranked)
                           order by failure.finished_at desc
                           limit    1
                       )
                   ) as candidate
        ) as failure
        where  known.attempts > 0
        and    known.failed_before is distinct from failure.finished_at;
end
$$;


-- Step 2 of project_calls: reads the attempts of these commands. Returns the commands to rebuild,
-- which are those of `is_changed`, those that may have a retry, and those with another time of their
-- issue, claim, or start. Also returns the attempts that roll-ups and retries know (`counted`), and
-- the attempts that failed. Retries also store failures of calls that are not
-- counted. `offset 0` makes PostgreSQL find a command's attempts by their key, and not among all
-- retries of the execution.
create function projector.known_calls(
    changes projector.call_change[],
    out to_rebuild projector.call_command[], out counted projector.call_id[],
    out failures projector.call_failure[]
)
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    select array_agg(distinct (reported.execution_id, reported.command_id)::call_command)
               filter (
                   where reported.is_changed or known.may_be_retried
                   or reported.issued_at <> known.issued_at
                   or reported.claimed_at <> known.claimed_at
                   or reported.started_at <> known.started_at
               ),
           array_agg((known.execution_id, known.command_id, known.attempts)::call_id)
               filter (where known.finished_at is not null or known.attempts > 0),
           array_agg(
               (
                   known.execution_id, known.command_id, known.attempts,
                   ranked_value(known.step_ranked), coalesce(known.iteration, -1), known.finished_at
               )::call_failure
           ) filter (where call_failed(known.outcome_ranked))
    into   to_rebuild, counted, failures
    from   unnest(known_calls.changes) as reported
    left join lateral (
        select *
        from   call_facts
        where  call_facts.execution_id = reported.execution_id
        and    call_facts.command_id = reported.command_id
        offset 0
    ) as known on true;
end
$$;


-- Step 3 of project_calls: merges new events into first attempts, in order, which locks them. Skips
-- commands that are rebuilt. Returns the attempts that have ended, and those of them that failed.
create function projector.merge_calls(
    changes projector.call_change[], rebuilt projector.call_command[],
    out ended projector.call_id[], out failed projector.call_id[]
)
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    with written as (
        insert into call_facts as known (
            execution_id, command_id, attempts, begun_at, issued_at, claimed_at, started_at,
            finished_at, outcome_ranked, duration_ranked, error_ranked, step_ranked,
            worker_ranked, max_attempts_ranked, iteration, is_numbered
        )
        select   execution_id, command_id, 0, begun_at, issued_at, claimed_at, started_at,
                 call_finished_at(outcome_ranked), outcome_ranked, duration_ranked, error_ranked,
                 step_ranked, worker_ranked, max_attempts_ranked, iteration, is_numbered
        from     unnest(merge_calls.changes)
        where    (execution_id, command_id) not in (
                     select execution_id, command_id from unnest(merge_calls.rebuilt)
                 )
        order by execution_id, command_id
        on conflict (execution_id, command_id, attempts)
        do update set
            begun_at            = least(known.begun_at, excluded.begun_at),
            issued_at           = least(known.issued_at, excluded.issued_at),
            claimed_at          = least(known.claimed_at, excluded.claimed_at),
            started_at          = least(known.started_at, excluded.started_at),
            finished_at         = case
                                      when known.outcome_ranked <= excluded.outcome_ranked
                                           or excluded.outcome_ranked is null
                                      then known.finished_at
                                      else excluded.finished_at
                                  end,
            outcome_ranked      = least(known.outcome_ranked, excluded.outcome_ranked),
            duration_ranked     = least(known.duration_ranked, excluded.duration_ranked),
            error_ranked        = least(known.error_ranked, excluded.error_ranked),
            step_ranked         = least(known.step_ranked, excluded.step_ranked),
            worker_ranked       = least(known.worker_ranked, excluded.worker_ranked),
            max_attempts_ranked = least(
                                      known.max_attempts_ranked, excluded.max_attempts_ranked
                                  ),
            iteration           = least(known.iteration, excluded.iteration),
            is_numbered         = known.is_numbered or excluded.is_numbered
        returning execution_id, command_id, attempts, outcome_ranked
    )
    select array_agg((execution_id, command_id, attempts)::call_id)
               filter (where outcome_ranked is not null),
           array_agg((execution_id, command_id, attempts)::call_id)
               filter (where call_failed(outcome_ranked))
    into   ended, failed
    from   written;
end
$$;


-- Step 4 of project_calls, for attempts that were written:
--     1. correct which failure came before each retry of `linked` and of `old_failures`
--     2. move the roll-ups by what `touched` counts under now, less `counts`
create function projector.count_changed_calls(
    counts projector.call_count[], touched projector.call_id[], linked projector.call_id[],
    old_failures projector.call_failure[]
)
    returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    stale_links call_id[];
    failures    timestamptz[];
begin
    if linked is not null or old_failures is not null then
        select array_agg((execution_id, command_id, attempts)::call_id), array_agg(failed_before)
        into   stale_links, failures
        from   stale_retry_links(linked, old_failures);
    end if;
    if stale_links is not null then
        counts := counts || (
            select array_agg(counted)
            from   call_counts(-1, stale_links) as counted
            where  (counted.execution_id, counted.command_id, counted.attempts) not in (
                       select execution_id, command_id, attempts from unnest(touched)
                   )
        );
        update call_facts as known
        set    failed_before = retry.failed_before
        from   unnest(stale_links, failures)
                   as retry (execution_id, command_id, attempts, failed_before)
        where  known.execution_id = retry.execution_id
        and    known.command_id = retry.command_id collate "C"
        and    known.attempts = retry.attempts;
    end if;

    select counts || array_agg(counted)
    into   counts
    from   call_counts(
               1,
               array(select distinct id from unnest(touched || stale_links) as id)
           ) as counted;
    if cardinality(counts) > 0 then
        perform count_calls(counts);
    end if;
end
$$;


-- Moves call_facts and the roll-ups of calls by the rows before and after a statement:
--     1. derive from each row what it says about its command, and add that up
--     2. read how its attempts are stored, and which commands to rebuild
--     3. write the attempts as they are from now on
--     4. correct which failure came before each retry, and move the roll-ups by the difference
-- Only this function sees the rows. It gives away what they say as an array of one entry a command.
create function projector.project_calls() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    roles        jsonb;
    outcomes     jsonb;
    changes      call_change[];
    to_rebuild   call_command[];
    counts       call_count[];
    old_failures call_failure[];
    was_counted  call_id[];
    touched      call_id[];
    linked       call_id[];
    left_over    bigint[];
begin
    if current_setting('projector.off', true) = 'on' then
        return null;
    end if;
    if tg_op = 'DELETE' and current_setting('projector.archiving', true) = 'on' then
        -- An execution that left whole took its calls with it.
        left_over := array(
            select execution_id
            from   (select distinct execution_id from before) as archived
            join   execution_facts using (execution_id)
        );
        if cardinality(left_over) = 0 then
            return null;
        end if;
    end if;

    -- 1. Derive what each row says, and add it up by command.
    select jsonb_object_agg(event_type, role), jsonb_object_agg(event_type, outcome)
    into   roles, outcomes
    from   event_kinds
    where  subject = 'call';
    with event as (
        select true as is_changed, execution_id, command_id, event_type, step, status, created_at,
               evidence, worker_id, max_attempts, iteration, duration, error, context, result
        from   before
        where  roles ? event_type
        and    command_id <> ''
        and    (left_over is null or execution_id = any(left_over))
        union all
        select evidence >= 100 and attempts > 0, execution_id, command_id, event_type, step, status,
               created_at, evidence, worker_id, max_attempts, iteration, duration, error, context, result
        from   after
        where  roles ? event_type
        and    command_id <> ''
    ),
    reported as (
        select named.is_changed, named.execution_id, named.command_id collate "C" as command_id,
               named.created_at, named.iteration, named.role, named.evidence, said.*
        from   (
                   select *, roles ->> event_type as role, outcomes ->> event_type as type_outcome
                   from   event
                   offset 0
               ) as named
        cross join lateral report_on_call(
            named.role, named.type_outcome, named.status, named.created_at, named.evidence,
            named.step, named.worker_id, named.max_attempts, named.duration, named.error,
            named.context, named.result
        ) as said
    ),
    change as (
        select   execution_id, command_id, min(created_at) as begun_at,
                 min(created_at) filter (where role = 'issued') as issued_at,
                 min(created_at) filter (where role = 'claimed') as claimed_at,
                 min(created_at) filter (where role = 'started') as started_at,
                 min(outcome_ranked collate "C") as outcome_ranked,
                 min(duration_ranked collate "C") as duration_ranked,
                 min(error_ranked collate "C") as error_ranked,
                 min(step_ranked collate "C") as step_ranked,
                 min(worker_ranked collate "C") as worker_ranked,
                 min(max_attempts_ranked collate "C") as max_attempts_ranked,
                 min(iteration) as iteration, bool_or(evidence >= 100) as is_numbered,
                 bool_or(is_changed)
                 or count(*) filter (where role in ('issued', 'claimed', 'started'))
                    > num_nonnulls(
                          min(created_at) filter (where role = 'issued'),
                          min(created_at) filter (where role = 'claimed'),
                          min(created_at) filter (where role = 'started')
                      ) as is_changed
        from     reported
        group by execution_id, command_id
    )
    select array_agg(change::call_change)
    into   changes
    from   change;
    if coalesce(cardinality(changes), 0) = 0 then
        return null;
    end if;

    -- 2. Their attempts as roll-ups and retries know them.
    select known.to_rebuild, known.counted, known.failures
    into   to_rebuild, was_counted, old_failures
    from   known_calls(changes) as known;
    if was_counted is not null then
        counts := array(select counted from call_counts(-1, was_counted) as counted);
    end if;

    -- 3. The attempts from now on: rebuilt, or merged with new events.
    if to_rebuild is not null then
        select aggregated.touched, aggregated.linked
        into   touched, linked
        from   rebuild_calls(to_rebuild) as aggregated;
    end if;
    if cardinality(changes) > coalesce(cardinality(to_rebuild), 0) then
        select touched || merged.ended, linked || merged.failed
        into   touched, linked
        from   merge_calls(changes, to_rebuild) as merged;
    end if;

    -- 4. The failure before each retry, and the roll-ups.
    perform count_changed_calls(counts, touched, linked, old_failures);
    return null;
end
$$;

create trigger project_2_calls_inserted
    after insert on normalizer.events
    referencing new table as after
    for each statement execute function projector.project_calls();

create trigger project_2_calls_updated
    after update on normalizer.events
    referencing old table as before new table as after
    for each statement execute function projector.project_calls();

create trigger project_2_calls_deleted
    after delete on normalizer.events
    referencing old table as before
    for each statement execute function projector.project_calls();


create index calls_retried on projector.call_facts (
    execution_id, projector.ranked_value(step_ranked), coalesce(iteration, -1), attempts, begun_at
) where attempts > 0;
comment on index projector.calls_retried is
    'Query: retries of one step and iteration that began after a failure (retry_candidates).';
create index calls_failed on projector.call_facts (
    execution_id, projector.ranked_value(step_ranked), coalesce(iteration, -1), attempts,
    finished_at
) where projector.call_failed(outcome_ranked);
comment on index projector.calls_failed is
    'Query: the failure before a retry, and the next failure after one (stale_retry_links, '
    'retry_candidates).';

insert into migrations.applied (version) values ('0006') on conflict do nothing;
