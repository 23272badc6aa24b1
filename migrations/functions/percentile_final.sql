-- Returns the percentile in seconds from the state that percentile_transition has built. The state
-- counts calls by buckets of durations (duration_bucket). The function adds up these counts until it
-- reaches the bucket that contains the requested fraction, and returns the middle of that bucket.
create or replace function projector.percentile_final(state double precision[])
    returns double precision
    language sql immutable parallel safe
    return (
        select case
                   when bucket < 0 then 0
                   else power(2::double precision, (bucket + 0.5::double precision) / 8) / 1000000
               end
        from   (
                   select min(slot) filter (where 1e6 * up_to >= round(state[1] * 1e6) * total)
                          - 3 as bucket
                   from   (
                              select slot, sum(calls) over (order by slot) as up_to,
                                     sum(calls) over () as total
                              from   unnest(state) with ordinality as counted (calls, slot)
                              where  slot > 1 and calls <> 0
                          ) as cumulated
               ) as found
    );
