-- Returns how well an event's attempts, status, or created_at is known, as a rank from 0 to 2. If
-- reports of an event disagree, the value with the higher rank is kept. The column `evidence` holds
-- the three ranks as its decimal digits, in this order:
--     - attempts: 0 if not sent, 1 if sent in a field that counts from 1, 2 if sent as an explicit
--       count
--     - status: 0 if implied by event_type, 1 if declared, 2 for a failure, whether declared or
--       detected
--     - created_at: 0 for Kafka's time, 1 for the time in the snowflake id, 2 for the producer's
--       time
-- For example, 12 means that attempts wasn't sent, that the status was declared, and that the time
-- is the producer's. Evidence in normalizer/core/evidence.py has the same ranks.
create or replace function projector.evidence_rank(evidence smallint, about text) returns integer
    language sql immutable parallel safe
    return evidence / case about
        when 'attempts' then 100 when 'status' then 10 when 'created_at' then 1
    end % 10;
