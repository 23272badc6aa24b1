-- The rank of an end of an attempt. The least rank decides how the attempt ended:
--     1. its class: 0 for FAILED and ERROR, 1 for CANCELLED, 2 for COMPLETED
--     2. who reported it: 0 for the call itself, 1 for its command
--     3. when (encode_time)
--     4. its outcome, the worse first: 0 for FAILED, 1 for ERROR, 2 and 3 for the others
-- outcome_ranked of an attempt also has a last character: 0 if the end names its attempt, else 1. So
-- its characters are: 1 the class, 2 the reporter, 3 to 19 the time, 20 the outcome, 21 that last one.
-- Null for an event that is no end, for which `reporter` is null.
create or replace function projector.end_rank(reporter text, moment text, outcome text) returns text
    language sql immutable parallel safe
    return case outcome
        when 'COMPLETED' then '2' || reporter || moment || '3'
        when 'CANCELLED' then '1' || reporter || moment || '2'
        when 'ERROR' then '0' || reporter || moment || '1'
        else '0' || reporter || moment || '0'
    end;
