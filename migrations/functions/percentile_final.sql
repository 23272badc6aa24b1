-- Takes the state that percentile_transition has built, and returns the percentile in seconds. The
-- aggregate `percentile` calls it once, after all rows of a histogram. The first number in the
-- state is the requested fraction, and the others are numbers of calls by bucket of duration
-- (duration_bucket), of which the bucket -1 has position 2. The function adds up the calls until
-- they reach the fraction, and returns the middle of that bucket. If there are no calls, the result
-- is null.
--
-- For example, the fraction is 0.95, bucket 160 has 96 calls, and bucket 168 has 4. Then 95 of the
-- 100 calls are in bucket 160, from 2^(160/8) to 2^(161/8) microseconds. So the result is 1.095,
-- from 2^(160.5/8) microseconds. In bucket -1 all durations are zero, and so is the result.
create or replace function projector.percentile_final(state double precision[])
    returns double precision
    language sql immutable parallel safe
    return (
        select case
                   when bucket < 0 then 0
                   else power(2::double precision, (bucket + 0.5::double precision) / 8) / 1000000
               end
        from   (
                   -- Count in millionths, because 0.95 as a double isn't exactly 95 of 100. The
                   -- position of a bucket is its number plus 3.
                   select min(position_in_state) filter (
                              where 1e6 * calls_so_far >= round(state[1] * 1e6) * all_calls
                          ) - 3 as bucket
                   from   (
                              select position_in_state,
                                     sum(calls) over (order by position_in_state) as calls_so_far,
                                     sum(calls) over () as all_calls
                              from   unnest(state) with ordinality
                                         as counted (calls, position_in_state)
                              where  position_in_state > 1 and calls <> 0
                          ) as summed_bucket
               ) as found_bucket
    );
