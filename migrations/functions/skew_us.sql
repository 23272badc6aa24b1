-- Returns the microseconds from created_at to recorded_at. The result is negative if the producer's
-- clock is ahead. It is null if the two are less than a second apart, as they are for most events,
-- so that nothing is computed for those.
create or replace function projector.skew_us(created_at timestamptz, recorded_at timestamptz)
    returns bigint
    language sql stable parallel safe
    return case
        when recorded_at >= created_at and recorded_at < created_at + interval '1 second' then null
        when recorded_at < created_at - interval '1 second'
             or recorded_at >= created_at + interval '1 second'
        then (date_part('epoch', recorded_at - created_at) * 1000000)::bigint
    end;
