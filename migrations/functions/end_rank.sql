-- The rank of an end of an attempt. The least rank decides how the attempt ended:
--     1. its class: 0 for FAILED and ERROR, 1 for CANCELLED, 2 for COMPLETED
--     2. who reported it: 0 for the call itself, 1 for its command
--     3. when (encode_time)
--     4. its outcome, the worse first: 0 for FAILED, 1 for ERROR, 2 and 3 for the others
-- outcome_ranked of an attempt also has a last character: 0 if the end names its attempt, else 1. Its
-- characters, for example of a numbered call that completed on 2026-07-10 at 09:00:00.041482 UTC:
--     2 0 10002f93cbbf3060a 3 0
--     | | |                 | 21 whether it lacks a number (call_attribution)
--     | | |                 20 the outcome (call_outcome)
--     | | 3 to 19 the time (call_finished_at)
--     | 2 the reporter
--     1 the class (call_failed)
-- The text of an error begins at 21 (call_error). In the other ranked values the time comes first,
-- so the value begins at 18 (ranked_value), or at 19 after a reporter (call_duration_us).
-- Null for an event that is no end, for which `reporter` is null.
create or replace function projector.end_rank(reporter text, moment text, outcome text) returns text
    language sql immutable parallel safe
    return case outcome
        when 'COMPLETED' then '2' || reporter || moment || '3'
        when 'CANCELLED' then '1' || reporter || moment || '2'
        when 'ERROR' then '0' || reporter || moment || '1'
        else '0' || reporter || moment || '0'
    end;
