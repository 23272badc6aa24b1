-- Returns when an attempt ended, which is encoded in the rank of the deciding end (end_rank). The
-- result is null if the time is outside of the years 1 to 9999, but no real event has such a time. The
-- view finished_calls, and so every roll-up, leaves such an attempt out.
-- The condition compares encoded times (encode_time), so the number is decoded only once. Its
-- microseconds become an interval by way of text, because a product of a number and an interval
-- rounds them for times from the year 2285 on.
create or replace function projector.call_finished_at(outcome_ranked text) returns timestamptz
    language sql stable parallel safe
    return case
        when substr(outcome_ranked, 3, 17) collate "C"
             between '0ff1fe2ffc59c6000' and '10380e70b913b7fff'
        then '2000-01-01 00:00:00+00'::timestamptz
             + (
                   projector.ranked_value_as_bigint(substr(outcome_ranked, 3, 17)) || ' microseconds'
               )::interval
    end;
