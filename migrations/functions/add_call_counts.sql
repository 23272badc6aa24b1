-- Adds the counts of these finished attempts (view finished_calls) to the roll-ups of calls. The
-- counts go to the given shard, or to the shard of this transaction if none is given. If a row
-- would hold only one sum, and that sum is 0, the row isn't written.
--
-- For example, these counts correct a step that was unknown when its call was counted:
--     sign | attempts | step | status | finished_at
--       -1 |        0 |      | FAILED | 09:00:05
--        1 |        0 | a    | FAILED | 09:00:05
-- So call_hours of 09:00 loses a call of the step '' and gains one of the step `a`. So do the other
-- tables with steps. worker_hours has none, so its sums stay.
--
-- New rows are inserted in the order of time, so that a time range occupies few pages. Each insert
-- orders by `max(hour)`, which equals the hour of the group. If it ordered by `hour` itself,
-- PostgreSQL would sort all calls instead of their sums. The steps:
--     1. sum up equal counts
--     2. attempts by hour
--     3. histograms
--     4. attempts by worker
--     5. failures by error class
--     6. retries by minute
create or replace function projector.add_call_counts(
    counts projector.call_delta[], into_shard smallint default null
) returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    own_shard constant smallint := coalesce(into_shard, take_shard());
begin
    -- 1. Equal counts cancel out. The rest is by how many calls the roll-ups differ.
    with difference as materialized (
        select   sum(sign)::integer as calls, playbook, step, attempts, finished_at, status,
                 worker_id, error, duration_us, queue_us, backoff_us, exhausted, inferred,
                 to_hour(finished_at) as hour
        from     unnest(add_call_counts.counts)
        group by playbook, step, attempts, finished_at, status, worker_id, error, duration_us,
                 queue_us, backoff_us, exhausted, inferred
        having   sum(sign) <> 0
    ),
    -- 2. Attempts by hour.
    in_hours as (
        insert into call_hours as counted (
            hour, playbook, step, attempts, status, shard, calls, exhausted, inferred
        )
        select   hour, playbook, step, attempts, status, own_shard, sum(calls),
                 coalesce(sum(calls) filter (where exhausted), 0),
                 coalesce(sum(calls) filter (where inferred), 0)
        from     difference
        group by 1, 2, 3, 4, 5
        order by max(hour), 2, 3
        on conflict (hour, playbook, step, attempts, status, shard)
        do update set
            calls     = counted.calls + excluded.calls,
            exhausted = counted.exhausted + excluded.exhausted,
            inferred  = counted.inferred + excluded.inferred
    ),
    -- 3. Histograms.
    in_times as (
        insert into call_times as counted (
            hour, measure, playbook, step, attempts, status, bucket, shard, calls
        )
        select   difference.hour, measured.measure collate "C", difference.playbook,
                 difference.step, difference.attempts, difference.status,
                 duration_bucket(measured.microseconds), own_shard, sum(difference.calls)
        from     difference
        cross join lateral (
            values ('duration', difference.duration_us), ('queue', difference.queue_us),
                   ('backoff', difference.backoff_us)
        ) as measured (measure, microseconds)
        where    measured.microseconds is not null
        group by 1, 2, 3, 4, 5, 6, 7
        having   sum(difference.calls) <> 0
        order by max(difference.hour), 2, 3, 4
        on conflict (hour, measure, playbook, step, attempts, status, bucket, shard)
        do update set calls = counted.calls + excluded.calls
    ),
    -- 4. Attempts by worker.
    in_workers as (
        insert into worker_hours as counted (
            hour, worker_id, status, shard, calls, timed, duration_us
        )
        select   hour, worker_id, status, own_shard, sum(calls),
                 coalesce(sum(calls) filter (where duration_us is not null), 0),
                 coalesce(sum(calls::numeric * duration_us), 0)
        from     difference
        group by 1, 2, 3
        order by max(hour), 2
        on conflict (hour, worker_id, status, shard)
        do update set
            calls       = counted.calls + excluded.calls,
            timed       = counted.timed + excluded.timed,
            duration_us = counted.duration_us + excluded.duration_us
    ),
    -- 5. Failures by error class.
    in_errors as (
        insert into error_hours as counted (
            hour, step, attempts, status, error_class, shard, calls
        )
        select   hour, step, attempts, status, coalesce(classify_error(error), ''), own_shard,
                 sum(calls)
        from     difference
        where    status <> 'COMPLETED'
        group by 1, 2, 3, 4, 5
        having   sum(calls) <> 0
        order by max(hour), 2
        on conflict (hour, step, attempts, status, error_class, shard)
        do update set calls = counted.calls + excluded.calls
    )
    -- 6. Retries by minute. `projector maintain` deletes the minutes before kept_from.
    insert into retry_minutes as counted (minute, step, shard, first_tries, retries)
    select   minute, step, own_shard,
             coalesce(sum(calls) filter (where attempts = 0), 0),
             coalesce(sum(calls) filter (where attempts > 0), 0)
    from     (select to_minute(finished_at) as minute, * from difference) as ended
    where    finished_at >= (select kept_from from maintenance_state where subject = 'minutes')
    group by 1, 2
    order by max(minute), 2
    on conflict (minute, step, shard)
    do update set
        first_tries = counted.first_tries + excluded.first_tries,
        retries     = counted.retries + excluded.retries;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.add_call_counts(projector.call_delta[],smallint) from public;
