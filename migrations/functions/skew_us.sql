-- Microseconds from created_at to recorded_at, below 0 if the producer's clock is ahead. Null under
-- a second, as of most events, so that nothing is computed for them.
create or replace function projector.skew_us(created_at timestamptz, recorded_at timestamptz)
    returns bigint
    language sql stable parallel safe
    return case
        when recorded_at >= created_at and recorded_at < created_at + interval '1 second' then null
        when recorded_at < created_at - interval '1 second'
             or recorded_at >= created_at + interval '1 second'
        then (date_part('epoch', recorded_at - created_at) * 1000000)::bigint
    end;
