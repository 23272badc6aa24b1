-- Returns the rank of how an event's attempts, status, or created_at became known. The three ranks
-- are the digits of the column `evidence`, from left to right:
--
--              0                       1                            2
--   attempts   not sent                a field that counts from 1   an explicit count
--   status     implied by event_type   declared                     a failure, declared or found
--   created_at Kafka's time            the snowflake id's time      the producer's time
--
-- If reports of an event disagree, the value with the higher rank stays. Evidence in
-- normalizer/core/evidence.py has the same ranks.
create or replace function projector.evidence_rank(evidence smallint, about text) returns integer
    language sql immutable parallel safe
    return evidence / case about
        when 'attempts' then 100 when 'status' then 10 when 'created_at' then 1
    end % 10;
