-- Returns the rank of an end of an attempt. The end with the least rank decides how the attempt
-- ended. A rank consists of:
--     1. the class of the outcome: 0 for FAILED and ERROR, 1 for CANCELLED, 2 for COMPLETED
--     2. who reported it: 0 for the call itself, 1 for its command
--     3. when it was reported (encode_time)
--     4. the outcome, the worse first: 0 for FAILED, 1 for ERROR, 2 and 3 for the others
-- For example, `2 0 10002f93cbbf3060a 3`, without the spaces, is a call that completed on 2026-07-10
-- at 09:00:00.041482 UTC. In outcome_ranked of an attempt, one more character follows: 0 if the end
-- names its attempt, else 1. In error_ranked, the error text follows. 0004_create_projector.sql says
-- what reads each part. If the event isn't an end, `reporter` is null, and so is the result. No end
-- has another outcome than these four (event_kinds_outcome, call_facts_from_event).
create or replace function projector.end_rank(reporter text, moment text, outcome text) returns text
    language sql immutable parallel safe
    return case outcome
        when 'COMPLETED' then '2' || reporter || moment || '3'
        when 'CANCELLED' then '1' || reporter || moment || '2'
        when 'ERROR' then '0' || reporter || moment || '1'
        when 'FAILED' then '0' || reporter || moment || '0'
    end;
