-- Returns when an attempt ended, which is encoded in the rank of the deciding end (end_rank). The
-- result is null if the time is outside of the years 1 to 9999, but no real event has such a time.
-- Seconds and microseconds are added separately, because PostgreSQL multiplies an interval by a
-- floating-point number. For times from the year 2285 on, a single multiplication would round the
-- microseconds.
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
