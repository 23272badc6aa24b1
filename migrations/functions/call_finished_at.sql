-- Returns when an attempt ended, which it reads from the rank of the deciding end (end_rank).
-- Returns null for a time outside the calendar, which no event has. Seconds and microseconds are
-- added separately. PostgreSQL multiplies an interval as a floating-point number, which would round
-- the microseconds from the year 2285 on.
create or replace function projector.call_finished_at(outcome_ranked text) returns timestamptz
    language sql stable parallel safe
    return case
        when projector.decode_bigint(substr(outcome_ranked, 4, 16))
             between -63082281600000000 and 252455615999999999
        then '2000-01-01 00:00:00+00'::timestamptz
             + projector.decode_bigint(substr(outcome_ranked, 4, 16)) / 1000000
             * interval '1 second'
             + projector.decode_bigint(substr(outcome_ranked, 4, 16)) % 1000000
             * interval '1 microsecond'
    end;
