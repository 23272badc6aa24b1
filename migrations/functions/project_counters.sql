-- Updates the counters after a statement. The function adds the rows as they are after the
-- statement, and subtracts the rows as they were before it:
--     1. events by minute
--     2. events by hour
--     3. arrivals by hour
--     4. coercions by hour
-- New rows are inserted in the order of time, so that a time range occupies few pages. Each insert
-- orders by the latest event of a group. If it ordered by the hour itself, every session whose
-- first batch was small would keep a plan that sorts all rows of a batch instead of their sums.
-- When the trigger passes an argument, the rows were deleted by delete_executions, and are added
-- to the archived part (shard -1).
create or replace function projector.project_counters() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set enable_seqscan = off
    set jit = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    own_shard constant smallint := case tg_nargs when 0 then take_shard() else -1 end;
    added     constant integer := case tg_nargs when 0 then 1 else -1 end;
begin
    if current_setting('projector.off', true) = 'on' then
        return null;
    end if;

    -- 1. Events by minute. The hours add up the same groups, which are fewer than the rows.
    with moved as (
        select -added as sign, created_at, step, event_type, status, attempts, command_id, evidence
        from   before
        union all
        select added, created_at, step, event_type, status, attempts, command_id, evidence
        from   after
    ),
    in_minute as materialized (
        select   to_minute(created_at) as minute, step, event_type, status, attempts,
                 sum(sign)::integer as events,
                 (sum(sign) filter (where coalesce(command_id, '') = ''))::integer
                     as without_command,
                 (sum(sign) filter (where evidence_rank(evidence, 'attempts') = 0))::integer
                     as attempts_defaulted
        from     moved
        group by 1, 2, 3, 4, 5
    ),
    in_minutes as (
        insert into event_minutes as counted (
            minute, event_type, status, attempts, shard, events, attempts_defaulted
        )
        select   minute, event_type collate "C", status collate "C", attempts, own_shard,
                 sum(events), coalesce(sum(attempts_defaulted), 0)
        from     in_minute
        where    minute >= (select kept_from from maintenance_state where subject = 'minutes')
        group by 1, 2, 3, 4
        having   sum(events) <> 0 or sum(attempts_defaulted) <> 0
        order by max(minute)
        on conflict (minute, event_type, status, attempts, shard)
        do update set
            events             = counted.events + excluded.events,
            attempts_defaulted = counted.attempts_defaulted + excluded.attempts_defaulted
    )
    -- 2. Events by hour.
    insert into event_hours as counted (
        hour, step, event_type, status, attempts, shard, events, without_command,
        attempts_defaulted
    )
    select   to_hour(minute), step collate "C", event_type collate "C", status collate "C",
             attempts, own_shard, sum(events), coalesce(sum(without_command), 0),
             coalesce(sum(attempts_defaulted), 0)
    from     in_minute
    group by 1, 2, 3, 4, 5
    having   sum(events) <> 0 or sum(without_command) <> 0 or sum(attempts_defaulted) <> 0
    order by max(minute)
    on conflict (hour, step, event_type, status, attempts, shard)
    do update set
        events             = counted.events + excluded.events,
        without_command    = counted.without_command + excluded.without_command,
        attempts_defaulted = counted.attempts_defaulted + excluded.attempts_defaulted;

    -- 3. Arrivals by hour.
    insert into arrival_hours as counted (
        hour, shape, worker_id, lateness, shard, events, skew_us, attempts_defaulted,
        status_from_name, time_from_log
    )
    select   to_hour(coalesce(moved.recorded_at, moved.created_at)), moved.shape collate "C",
             coalesce(moved.worker_id, '') collate "C",
             -- Put the events into classes by the time that they took to reach Kafka. The comment
             -- on arrival_hours.lateness lists the classes. Most events arrive within a second, so
             -- the first case checks for that.
             case
                 when moved.recorded_at >= moved.created_at
                      and moved.recorded_at < moved.created_at + interval '1 second' then 2
                 when moved.recorded_at is null then 0
                 when moved.recorded_at < moved.created_at - interval '1 second' then 1
                 when moved.recorded_at < moved.created_at + interval '1 second' then 2
                 when moved.recorded_at < moved.created_at + interval '10 seconds' then 3
                 when moved.recorded_at < moved.created_at + interval '1 minute' then 4
                 when moved.recorded_at < moved.created_at + interval '10 minutes' then 5
                 when moved.recorded_at < moved.created_at + interval '1 hour' then 6
                 when moved.recorded_at < moved.created_at + interval '24 hours' then 7
                 else 8
             end::smallint,
             own_shard, sum(moved.sign),
             coalesce(sum(moved.sign * moved.skew_us), 0),
             coalesce(
                 sum(moved.sign) filter (where evidence_rank(moved.evidence, 'attempts') = 0), 0
             ),
             coalesce(
                 sum(moved.sign) filter (where evidence_rank(moved.evidence, 'status') = 0), 0
             ),
             coalesce(
                 sum(moved.sign) filter (where evidence_rank(moved.evidence, 'created_at') = 0), 0
             )
    from     (
                 select *,
                        -- The time from created_at to recorded_at, which is negative if the
                        -- producer's clock is ahead. If the two are less than a second apart, as
                        -- for most events, the result is null, which saves the work of adding it
                        -- up.
                        case
                            when recorded_at >= created_at
                                 and recorded_at < created_at + interval '1 second' then null
                            when recorded_at < created_at - interval '1 second'
                                 or recorded_at >= created_at + interval '1 second'
                            then (date_part('epoch', recorded_at - created_at) * 1000000)::bigint
                        end as skew_us
                 from   (
                            select -added as sign, recorded_at, created_at, shape, worker_id,
                                   evidence
                            from   before
                            union all
                            select added, recorded_at, created_at, shape, worker_id, evidence
                            from   after
                        ) as changed
             ) as moved
    group by 1, 2, 3, 4
    having   sum(moved.sign) <> 0
    or       sum(moved.sign * moved.skew_us) <> 0
    or       sum(moved.sign) filter (where evidence_rank(moved.evidence, 'attempts') = 0) <> 0
    or       sum(moved.sign) filter (where evidence_rank(moved.evidence, 'status') = 0) <> 0
    or       sum(moved.sign) filter (where evidence_rank(moved.evidence, 'created_at') = 0) <> 0
    order by max(coalesce(moved.recorded_at, moved.created_at))
    on conflict (hour, shape, worker_id, lateness, shard)
    do update set
        events             = counted.events + excluded.events,
        skew_us            = counted.skew_us + excluded.skew_us,
        attempts_defaulted = counted.attempts_defaulted + excluded.attempts_defaulted,
        status_from_name   = counted.status_from_name + excluded.status_from_name,
        time_from_log      = counted.time_from_log + excluded.time_from_log;

    -- 4. Coercions by hour.
    insert into coercion_hours as counted (hour, shape, rule, shard, coercions)
    select   to_hour(coalesce(moved.recorded_at, moved.created_at)), moved.shape collate "C",
             left(coercion.value ->> 'rule', 100) collate "C", own_shard, sum(moved.sign)
    from     (
                 select -added as sign, recorded_at, created_at, shape, coercions
                 from   before
                 where  coercions is not null
                 union all
                 select added, recorded_at, created_at, shape, coercions
                 from   after
                 where  coercions is not null
             ) as moved
    cross join lateral jsonb_array_elements(moved.coercions) as coercion
    where    coercion.value ->> 'rule' is not null
    group by 1, 2, 3
    having   sum(moved.sign) <> 0
    order by 1, 2, 3
    on conflict (hour, shape, rule, shard)
    do update set coercions = counted.coercions + excluded.coercions;
    return null;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.project_counters() from public;
