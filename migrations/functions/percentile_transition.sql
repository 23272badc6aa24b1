-- Adds one row of a histogram to the state of the aggregate `percentile`. The state is an array
-- that holds the requested fraction, followed by the number of calls in each bucket from -1 on. A
-- number may be negative until all rows are added, because one shard may subtract what another
-- shard has added.
create or replace function projector.percentile_transition(
    state double precision[], fraction double precision, bucket integer, calls bigint
) returns double precision[]
    language plpgsql immutable parallel safe
as $$
begin
    state[1] := fraction;
    if bucket is not null and calls is not null then
        state[bucket + 3] := coalesce(state[bucket + 3], 0) + calls;
    end if;
    return state;
end
$$;
