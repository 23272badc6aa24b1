-- migrate:up

-- How the tries of a command follow its events.
--
-- An event that does not say which try it tells of (its attempts were defaulted) belongs to the
-- command's only numbered try, and to try 0 where there is none or more than one: a retry issued
-- with attempt 2 and reported by a worker that sends no number is one try. Which try that is can
-- change with a later event; the command is folded anew then.

-- How a call went that this event says is over.
create function projector.call_status(status text, outcome text) returns text
    language sql immutable parallel safe
    return case
        when status in ('COMPLETED', 'FAILED', 'ERROR', 'CANCELLED') then status
        else outcome
    end;

create aggregate projector.concatenated(anycompatiblearray) (
    sfunc = array_cat, stype = anycompatiblearray
);


-- A command to fold anew from these events; without ids, from all of its execution's; without a
-- key, every command of the execution.
create type projector.call_group as (
    execution_id bigint,
    call_key     text,
    event_ids    bigint[]
);


-- What the stored events of commands tell of each try that they number, and (told null) without.
create function projector.told_calls(groups projector.call_group[])
    returns table (
        execution_id bigint, call_key text, told integer, begun_at timestamptz,
        issued_at timestamptz, claimed_at timestamptz,
        started_at timestamptz, told_outcome text, told_duration text, told_error text,
        told_step text, told_worker text, told_limit text, iteration integer, event_ids bigint[]
    )
    language sql stable
    set search_path = pg_catalog, projector, pg_temp
    set enable_hashjoin = on
as $$
    with event as (
        select found.*, kind.role, kind.outcome, dated(found.created_at) as moment,
               call_key(found.command_id, found.step, found.iteration) collate "C" as call_key,
               case when found.evidence >= 100 then found.attempts end as told,
               case
                   when kind.role = 'done' then '0'
                   when kind.role = 'ended' and not (
                       kind.outcome = 'COMPLETED'
                       and coalesce(found.context @> '{"pending_callback": true}', false)
                   ) then '1'
               end as closes
        from   (
                   select listed.call_key as wanted_key, one.*
                   from   events_at(
                              array(select unnest(event_ids) from unnest(told_calls.groups))
                          ) as one
                   join   (
                              select distinct execution_id, call_key, unnest(event_ids) as event_id
                              from   unnest(told_calls.groups)
                          ) as listed using (execution_id, event_id)
                   union all
                   select whole.call_key, one.*
                   from   events_of(
                              array(
                                  select execution_id
                                  from   unnest(told_calls.groups)
                                  where  event_ids is null
                              )
                          ) as one
                   join   unnest(told_calls.groups) as whole using (execution_id)
                   where  whole.event_ids is null
               ) as found
        join   event_kinds as kind on kind.event_type = found.event_type and kind.subject = 'call'
        where  found.wanted_key is null
        or     call_key(found.command_id, found.step, found.iteration) = found.wanted_key
    )
    select   execution_id, call_key, told,
             min(created_at),
             min(created_at) filter (where role = 'issued'),
             min(created_at) filter (where role = 'claimed'),
             min(created_at) filter (where role = 'started'),
             min((closes || moment || call_status(status, outcome)) collate "C"),
             min((closes || moment || sortable(microseconds(duration))) collate "C"),
             min((closes || moment || left(error, 1000)) collate "C") filter (where error <> ''),
             min((moment || step) collate "C") filter (where step <> ''),
             min((moment || worker_id) collate "C") filter (where worker_id <> ''),
             min((moment || sortable(max_attempts)) collate "C"),
             min(iteration),
             case when count(*) <= 64 then array_agg(event_id order by event_id) end
    from     event
    group by execution_id, call_key, told
$$;


-- Commands: what their stored events tell, folded over what those told that are archived.
create function projector.folded_calls(groups projector.call_group[])
    returns table (
        execution_id bigint, call_key text, attempts integer, numbered boolean,
        unnumbered boolean, begun_at timestamptz, issued_at timestamptz, claimed_at timestamptz,
        started_at timestamptz, told_outcome text, told_duration text, told_error text,
        told_step text, told_worker text, told_limit text, iteration integer, event_ids bigint[]
    )
    language sql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
    with part as (
        select * from told_calls(folded_calls.groups)
        union all
        select kept.*, '{}'::bigint[]
        from   unnest(folded_calls.groups) as wanted
        join   archived_calls as kept
               on  kept.execution_id = wanted.execution_id
               and (wanted.call_key is null or kept.call_key = wanted.call_key collate "C")
    ),
    numbered as (
        select *,
               min(told) over command as least_told,
               max(told) over command as greatest_told
        from   part
        window command as (partition by execution_id, call_key)
    )
    select   execution_id, call_key,
             coalesce(told, case when least_told = greatest_told then least_told else 0 end) as try,
             bool_or(told is not null), bool_or(told is null), min(begun_at), min(issued_at),
             min(claimed_at), min(started_at), min(told_outcome collate "C"),
             min(told_duration collate "C"), min(told_error collate "C"),
             min(told_step collate "C"), min(told_worker collate "C"),
             min(told_limit collate "C"), min(iteration),
             case
                 when bool_and(event_ids is not null) and sum(cardinality(event_ids)) <= 64
                 then concatenated(event_ids)
             end
    from     numbered
    group by execution_id, call_key, try
$$;


-- Folds commands anew; returns the tries that were or are theirs.
create function projector.refold_calls(groups projector.call_group[]) returns projector.call_id[]
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    touched call_id[];
begin
    with folded as materialized (
        select * from folded_calls(refold_calls.groups)
    ),
    gone as (
        delete from call_facts as known
        using  unnest(refold_calls.groups) as wanted
        where  known.execution_id = wanted.execution_id
        and    known.call_key = wanted.call_key collate "C"
        and    (known.execution_id, known.call_key, known.attempts) not in (
                   select execution_id, call_key collate "C", attempts from folded
               )
        returning known.execution_id, known.call_key, known.attempts
    ),
    written as (
        insert into call_facts as known (
            execution_id, call_key, attempts, numbered, unnumbered, begun_at, issued_at,
            claimed_at, started_at, finished_at, told_outcome, told_duration, told_error,
            told_step, told_worker, told_limit, iteration, event_ids
        )
        select   execution_id, call_key, attempts, numbered, unnumbered, begun_at, issued_at,
                 claimed_at, started_at, moment_of(substr(told_outcome, 2)), told_outcome,
                 told_duration, told_error, told_step, told_worker, told_limit, iteration, event_ids
        from     folded
        order by execution_id, call_key collate "C", attempts
        on conflict (execution_id, call_key, attempts)
        do update set
            numbered      = excluded.numbered,
            unnumbered    = excluded.unnumbered,
            begun_at      = excluded.begun_at,
            issued_at     = excluded.issued_at,
            claimed_at    = excluded.claimed_at,
            started_at    = excluded.started_at,
            finished_at   = excluded.finished_at,
            told_outcome  = excluded.told_outcome,
            told_duration = excluded.told_duration,
            told_error    = excluded.told_error,
            told_step     = excluded.told_step,
            told_worker   = excluded.told_worker,
            told_limit    = excluded.told_limit,
            iteration     = excluded.iteration,
            event_ids     = excluded.event_ids
        returning execution_id, call_key, attempts
    )
    select array_agg((execution_id, call_key, attempts)::call_id)
    into   touched
    from   (select * from gone union all select * from written) as touched_call;
    return touched;
end
$$;


-- A try that failed, at the place where retries look for it: of a step and iteration, -1 for none.
create type projector.call_failure as (
    execution_id bigint,
    call_key     text,
    attempts     integer,
    step         text,
    iteration    integer,
    finished_at  timestamptz
);


-- The retries whose failure before is not the one that is noted: they, and what it is.
--
-- The failure before a retry is the last one, of the same command or of the same step and
-- iteration, with one attempt less, that came before the retry began. `changed` are retries and
-- failures that changed, `were` the failures among the changed tries as they were before. A retry
-- that did not change noted a failure that left its place, or misses one that is new there; both
-- lie before the next failure, so no retry beyond that is read.
--
-- offset 0: each is looked up by its key. A plan that was made while there were no retries, and joins
-- freely, goes through all that there are by now, or through all of the execution.
create function projector.misdated_retries(
    changed projector.call_id[], were projector.call_failure[]
)
    returns table (execution_id bigint, call_key text, attempts integer, failed_before timestamptz)
    language plpgsql stable
    set search_path = pg_catalog, projector, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        with arrived as (
            select changed.execution_id, changed.call_key, changed.attempts,
                   undated(failure.told_step) as step,
                   coalesce(failure.iteration, -1) as iteration, failure.finished_at
            from   unnest(misdated_retries.changed) as changed
            cross join lateral (
                select *
                from   call_facts as failure
                where  failure.execution_id = changed.execution_id
                and    failure.call_key = changed.call_key collate "C"
                and    failure.attempts = changed.attempts
                offset 0
            ) as failure
            where  substr(failure.told_outcome, 19) <> 'COMPLETED'
            except
            select * from unnest(misdated_retries.were)
        ),
        candidate as (
            select changed.execution_id, changed.call_key, changed.attempts
            from   unnest(misdated_retries.changed) as changed
            union
            -- The next try of the same command.
            select changed.execution_id, changed.call_key, changed.attempts + 1
            from   unnest(misdated_retries.changed) as changed
            union
            select was.execution_id, was.call_key, was.attempts + 1
            from   unnest(misdated_retries.were) as was
            union
            -- Retries of the same step and iteration after a failure that is new.
            select retried.execution_id, retried.call_key, retried.attempts
            from   arrived
            left join lateral (
                select   failure.finished_at
                from     call_facts as failure
                where    failure.execution_id = arrived.execution_id
                and      undated(failure.told_step) = arrived.step
                and      coalesce(failure.iteration, -1) = arrived.iteration
                and      failure.attempts = arrived.attempts
                and      failure.finished_at > arrived.finished_at
                and      substr(failure.told_outcome, 19) <> 'COMPLETED'
                order by failure.finished_at
                limit    1
            ) as next on true
            cross join lateral (
                select *
                from   call_facts as retried
                where  retried.execution_id = arrived.execution_id
                and    undated(retried.told_step) = arrived.step
                and    coalesce(retried.iteration, -1) = arrived.iteration
                and    retried.attempts = arrived.attempts + 1
                and    retried.begun_at >= arrived.finished_at
                and    retried.begun_at < coalesce(next.finished_at, 'infinity')
                and    retried.attempts > 0
                offset 0
            ) as retried
            where  retried.failed_before is null
            or     retried.failed_before < arrived.finished_at
            union
            -- Retries that note a failure that was there: none if it is still there, as then it is
            -- the next itself.
            select retried.execution_id, retried.call_key, retried.attempts
            from   unnest(misdated_retries.were) as was
            left join lateral (
                select   failure.finished_at
                from     call_facts as failure
                where    failure.execution_id = was.execution_id
                and      undated(failure.told_step) = was.step collate "C"
                and      coalesce(failure.iteration, -1) = was.iteration
                and      failure.attempts = was.attempts
                and      failure.finished_at >= was.finished_at
                and      substr(failure.told_outcome, 19) <> 'COMPLETED'
                order by failure.finished_at
                limit    1
            ) as next on true
            cross join lateral (
                select *
                from   call_facts as retried
                where  retried.execution_id = was.execution_id
                and    undated(retried.told_step) = was.step collate "C"
                and    coalesce(retried.iteration, -1) = was.iteration
                and    retried.attempts = was.attempts + 1
                and    retried.begun_at >= was.finished_at
                and    retried.begun_at < coalesce(next.finished_at, 'infinity')
                and    retried.attempts > 0
                offset 0
            ) as retried
            where  retried.failed_before = was.finished_at
        )
        select known.execution_id, known.call_key, known.attempts, failure.finished_at
        from   candidate
        cross join lateral (
            select *
            from   call_facts as known
            where  known.execution_id = candidate.execution_id
            and    known.call_key = candidate.call_key collate "C"
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
                                  and    call_facts.call_key = known.call_key
                                  and    call_facts.attempts = known.attempts - 1
                                  offset 0
                              ) as failure
                       where  failure.finished_at <= known.begun_at
                       and    substr(failure.told_outcome, 19) <> 'COMPLETED'
                       union all
                       (
                           select   failure.finished_at
                           from     call_facts as failure
                           where    failure.execution_id = known.execution_id
                           and      undated(failure.told_step) = undated(known.told_step)
                           and      coalesce(failure.iteration, -1) = coalesce(known.iteration, -1)
                           and      failure.attempts = known.attempts - 1
                           and      failure.finished_at <= known.begun_at
                           and      substr(failure.told_outcome, 19) <> 'COMPLETED'
                           order by failure.finished_at desc
                           limit    1
                       )
                   ) as candidate
        ) as failure
        where  known.attempts > 0
        and    known.failed_before is distinct from failure.finished_at;
end
$$;


create function projector.follow_calls() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    roles    jsonb;
    outcomes jsonb;
    counts   call_count[];
    were     call_failure[];
    touched  call_id[];
    changed  call_id[];
    refolded call_group[];
    misdated call_id[];
    failures timestamptz[];
begin
    if current_setting('projector.off', true) = 'on' then
        return null;
    end if;

    select jsonb_object_agg(event_type, role), jsonb_object_agg(event_type, outcome)
    into   roles, outcomes
    from   event_kinds
    where  subject = 'call';

    with event as (
        select *, roles ->> event_type as role, dated(created_at) as moment
        from   (
                   select -1 as sign, event_id, execution_id, event_type, step, status, attempts,
                          max_attempts, created_at, worker_id, command_id, iteration, duration,
                          error, context, evidence
                   from   before
                   where  roles ? event_type
                   union all
                   select 1, event_id, execution_id, event_type, step, status, attempts,
                          max_attempts, created_at, worker_id, command_id, iteration, duration,
                          error, context, evidence
                   from   after
                   where  roles ? event_type
               ) as moved
        offset 0
    ),
    told as (
        select sign, event_id, execution_id, role, created_at, moment, step, worker_id, error,
               duration, max_attempts, iteration,
               call_key(command_id, step, iteration) collate "C" as call_key,
               case when evidence >= 100 then attempts end as told,
               call_status(status, outcomes ->> event_type) as outcome,
               case
                   when role = 'done' then '0'
                   when role = 'ended' and not (
                       outcomes ->> event_type = 'COMPLETED'
                       and coalesce(context @> '{"pending_callback": true}', false)
                   ) then '1'
               end as closes
        from   event
        offset 0
    ),
    -- What this statement tells of each numbered try, and of each command without a number.
    delta as (
        select   execution_id, call_key, told,
                 bool_or(sign < 0) as loses,
                 min(created_at) as begun_at,
                 min(created_at) filter (where role = 'issued') as issued_at,
                 min(created_at) filter (where role = 'claimed') as claimed_at,
                 min(created_at) filter (where role = 'started') as started_at,
                 min((closes || moment || outcome) collate "C") as told_outcome,
                 min((closes || moment || sortable(microseconds(duration))) collate "C")
                     as told_duration,
                 min((closes || moment || left(error, 1000)) collate "C")
                     filter (where error <> '') as told_error,
                 min((moment || step) collate "C") filter (where step <> '') as told_step,
                 min((moment || worker_id) collate "C") filter (where worker_id <> '')
                     as told_worker,
                 min((moment || sortable(max_attempts)) collate "C") as told_limit,
                 min(iteration) as iteration,
                 case when count(*) <= 64 then array_agg(event_id) end as event_ids
        from     told
        group by execution_id, call_key, told
    ),
    -- Which tries of the command are numbered: in this statement, and until now.
    known as (
        select delta.*, stored.*,
               bool_or(loses) over command as any_loses,
               min(told) over command as least_told,
               max(told) over command as greatest_told
        from   delta
        cross join lateral (
            select min(call_facts.attempts) filter (where call_facts.numbered) as least_known,
                   max(call_facts.attempts) filter (where call_facts.numbered) as greatest_known,
                   bool_or(call_facts.unnumbered) as unnumbered_known,
                   bool_or(call_facts.finished_at is not null or call_facts.attempts > 0)
                       as counted_known,
                   bool_or(substr(call_facts.told_outcome, 19) <> 'COMPLETED') as failed_known
            from   call_facts
            where  call_facts.execution_id = delta.execution_id
            and    call_facts.call_key = delta.call_key
        ) as stored
        window command as (partition by execution_id, call_key)
    ),
    -- The try that events without a number belong to may be another one from now on.
    placed as materialized (
        select *,
               coalesce(told, taking) as attempts,
               any_loses or (coalesce(unnumbered_known, false) and taking <> took) as refold
        from   (
                   select *,
                          case
                              when least(least_told, least_known)
                                   = greatest(greatest_told, greatest_known)
                              then least(least_told, least_known)
                              else 0
                          end as taking,
                          case when least_known = greatest_known then least_known else 0 end as took
                   from   known
               ) as aimed
    ),
    written as (
        insert into call_facts as known (
            execution_id, call_key, attempts, numbered, unnumbered, begun_at, issued_at,
            claimed_at, started_at, finished_at, told_outcome, told_duration, told_error,
            told_step, told_worker, told_limit, iteration, event_ids
        )
        select   execution_id, call_key, attempts, bool_or(told is not null),
                 bool_or(told is null), min(begun_at), min(issued_at), min(claimed_at),
                 min(started_at), moment_of(substr(min(told_outcome), 2)), min(told_outcome),
                 min(told_duration), min(told_error), min(told_step), min(told_worker),
                 min(told_limit), min(iteration),
                 case
                     when bool_and(event_ids is not null) and sum(cardinality(event_ids)) <= 64
                     then concatenated(event_ids)
                 end
        from     placed
        where    not refold
        group by execution_id, call_key, attempts
        order by execution_id, call_key, attempts
        on conflict (execution_id, call_key, attempts)
        do update set
            numbered      = known.numbered or excluded.numbered,
            unnumbered    = known.unnumbered or excluded.unnumbered,
            begun_at      = least(known.begun_at, excluded.begun_at),
            issued_at     = least(known.issued_at, excluded.issued_at),
            claimed_at    = least(known.claimed_at, excluded.claimed_at),
            started_at    = least(known.started_at, excluded.started_at),
            finished_at   = case
                                when known.told_outcome <= excluded.told_outcome
                                     or excluded.told_outcome is null
                                then known.finished_at
                                else excluded.finished_at
                            end,
            told_outcome  = least(known.told_outcome, excluded.told_outcome),
            told_duration = least(known.told_duration, excluded.told_duration),
            told_error    = least(known.told_error, excluded.told_error),
            told_step     = least(known.told_step, excluded.told_step),
            told_worker   = least(known.told_worker, excluded.told_worker),
            told_limit    = least(known.told_limit, excluded.told_limit),
            iteration     = least(known.iteration, excluded.iteration),
            event_ids     = case
                                when cardinality(known.event_ids)
                                     + cardinality(excluded.event_ids) <= 64
                                then known.event_ids || excluded.event_ids
                            end
        returning execution_id, call_key, attempts, finished_at,
                  attempts > 0 or coalesce(substr(told_outcome, 19) <> 'COMPLETED', false)
                      as may_retry
    )
    select (
               -- As the roll-ups know them, before anything is written.
               select array_agg(
                          (
                              -1, counted.execution_id, counted.call_key, counted.attempts,
                              playbook_of(execution.counted_told), counted.step,
                              counted.begun_at, counted.finished_at, counted.status,
                              counted.worker_id, counted.error, counted.duration_us,
                              counted.queue_us, counted.backoff_us, counted.exhausted
                          )::call_count
                      )
               from   (
                          -- Folding a command anew touches all its tries.
                          select distinct execution_id, call_key,
                                 case when not refold then attempts end as attempts
                          from   placed
                          where  counted_known
                      ) as written_over
               cross join lateral (
                   select *
                   from   counted_calls
                   where  counted_calls.execution_id = written_over.execution_id
                   and    counted_calls.call_key = written_over.call_key
                   and    counted_calls.attempts
                          = coalesce(written_over.attempts, counted_calls.attempts)
               ) as counted
               left join execution_facts as execution
                      on execution.execution_id = counted.execution_id
           ),
           -- Also of calls that are not counted: retries of theirs note them too.
           (
               select array_agg(
                          (
                              failure.execution_id, failure.call_key, failure.attempts,
                              undated(failure.told_step), coalesce(failure.iteration, -1),
                              failure.finished_at
                          )::call_failure
                      )
               from   (
                          select distinct execution_id, call_key,
                                 case when not refold then attempts end as attempts
                          from   placed
                          where  failed_known
                      ) as written_over
               cross join lateral (
                   select *
                   from   call_facts
                   where  call_facts.execution_id = written_over.execution_id
                   and    call_facts.call_key = written_over.call_key
                   and    call_facts.attempts
                          = coalesce(written_over.attempts, call_facts.attempts)
                   offset 0
               ) as failure
               where  substr(failure.told_outcome, 19) <> 'COMPLETED'
           ),
           (
               select array_agg((execution_id, call_key, attempts)::call_id)
               from   written
               where  finished_at is not null
               or     attempts > 0
           ),
           (
               select array_agg((execution_id, call_key, attempts)::call_id)
               from   written
               where  may_retry
           ),
           (
               select   array_agg(command)
               from     (
                            select   (
                                         placed.execution_id, placed.call_key,
                                         case
                                             when bool_and(placed.event_ids is not null)
                                                  and bool_and(stored.whole)
                                             then concatenated(placed.event_ids)
                                                  || concatenated(stored.event_ids)
                                         end
                                     )::call_group as command
                            from     placed
                            cross join lateral (
                                select coalesce(bool_and(call_facts.event_ids is not null), true)
                                           as whole,
                                       concatenated(call_facts.event_ids) as event_ids
                                from   call_facts
                                where  call_facts.execution_id = placed.execution_id
                                and    call_facts.call_key = placed.call_key
                            ) as stored
                            where    placed.refold
                            group by placed.execution_id, placed.call_key
                        ) as refolding
           )
    into   counts, were, touched, changed, refolded;

    if refolded is not null then
        changed := changed || refold_calls(refolded);
        touched := touched || changed;
    end if;
    if touched is null and counts is null then
        return null;
    end if;

    select array_agg((execution_id, call_key, attempts)::call_id), array_agg(failed_before)
    into   misdated, failures
    from   misdated_retries(changed, were);
    if misdated is not null then
        counts := counts || (
            select array_agg(counted)
            from   call_counts(-1, misdated) as counted
            where  (counted.execution_id, counted.call_key, counted.attempts) not in (
                       select execution_id, call_key, attempts from unnest(touched)
                   )
        );
        update call_facts as known
        set    failed_before = retry.failed_before
        from   unnest(misdated, failures)
                   as retry (execution_id, call_key, attempts, failed_before)
        where  known.execution_id = retry.execution_id
        and    known.call_key = retry.call_key collate "C"
        and    known.attempts = retry.attempts;
    end if;

    select counts || array_agg(counted)
    into   counts
    from   call_counts(
               1,
               array(select distinct id from unnest(touched || misdated) as id)
           ) as counted;
    if counts is not null then
        perform count_calls(counts);
    end if;
    return null;
end
$$;

create trigger follow_2_calls_inserted
    after insert on normalizer.events
    referencing new table as after
    for each statement execute function projector.follow_calls();

create trigger follow_2_calls_updated
    after update on normalizer.events
    referencing old table as before new table as after
    for each statement execute function projector.follow_calls();

create trigger follow_2_calls_deleted
    after delete on normalizer.events
    referencing old table as before
    for each statement execute function projector.follow_calls();


-- The retries of one step and iteration after a failure.
create index calls_retried on projector.call_facts (
    execution_id, projector.undated(told_step), coalesce(iteration, -1), attempts, begun_at
) where attempts > 0;
-- The failure before a retry.
create index calls_failed on projector.call_facts (
    execution_id, projector.undated(told_step), coalesce(iteration, -1), attempts, finished_at
) where substr(told_outcome, 19) <> 'COMPLETED';

insert into migrations.applied (version) values ('0006') on conflict do nothing;

-- migrate:down
