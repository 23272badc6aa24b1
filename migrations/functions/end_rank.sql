-- Returns the rank of an end of an attempt. The end with the least rank decides how the attempt
-- ended. A rank consists of:
--     1. the class of the outcome: 0 for FAILED and ERROR, 1 for CANCELLED, 2 for COMPLETED
--     2. who reported it: 0 for the call itself, 1 for its command
--     3. when it was reported (encode_time)
--     4. the outcome, the worse first: 0 for FAILED, 1 for ERROR, 2 and 3 for the others
-- In outcome_ranked of an attempt, one more character follows: 0 if the end names its attempt, else
-- 1. For example, these are the characters for a numbered call that completed on 2026-07-10 at
-- 09:00:00.041482 UTC:
--     2 0 10002f93cbbf3060a 3 0
--     | | |                 | 21 whether it lacks a number (call_attribution)
--     | | |                 20 the outcome (call_outcome)
--     | | 3 to 19 the time (call_finished_at)
--     | 2 the reporter
--     1 the class (call_failed)
-- The text of an error begins at 21 (call_error). In the other ranked values the time comes first,
-- so the value begins at 18 (ranked_value), or at 19 after a reporter (call_duration_us). If the
-- event isn't an end, `reporter` is null, and so is the result. No end has another outcome than
-- these four (event_kinds_outcome, call_facts_from_event).
create or replace function projector.end_rank(reporter text, moment text, outcome text) returns text
    language sql immutable parallel safe
    return case outcome
        when 'COMPLETED' then '2' || reporter || moment || '3'
        when 'CANCELLED' then '1' || reporter || moment || '2'
        when 'ERROR' then '0' || reporter || moment || '1'
        when 'FAILED' then '0' || reporter || moment || '0'
    end;
