-- Takes the outcome_ranked of an attempt, and returns when the attempt ended: the time in the rank
-- of the end that decides (end_rank). If the attempt has no end yet, both are null. The functions
-- that write call_facts call this for the column finished_at, and so does `projector verify`. For
-- example, `2 0 10002f93cbbf3060a 3 1`, without the spaces, gives 2026-07-10 09:00:00.041482 UTC.
--
-- The result is null too if the time is outside of the years 1 to 9999, but no real event has such
-- a time. The view finished_calls, and so every roll-up, leaves such an attempt out. The condition
-- compares encoded times, so that the time is decoded only once (ranked_value_as_bigint), to
-- microseconds since 2000. They become an interval by way of text, because a product of a number
-- and an interval rounds them for times from the year 2285 on.
create or replace function projector.call_finished_at(outcome_ranked text) returns timestamptz
    language sql stable parallel safe
    return case
        when substr(outcome_ranked, 3, 17) collate "C" -- time of the report in end_rank
             between '0ff1fe2ffc59c6000' and '10380e70b913b7fff'
        then '2000-01-01 00:00:00+00'::timestamptz
             + (
                   projector.ranked_value_as_bigint(
                       substr(outcome_ranked, 3, 17) -- time of the report in end_rank
                   ) || ' microseconds'
               )::interval
    end;
