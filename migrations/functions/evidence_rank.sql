-- Reads from the column `evidence` how well the attempts, the status, or created_at of an event is
-- known: 0, 1, or 2. These are its digits, from left to right. Evidence in
-- normalizer/core/evidence.py does the same in Python.
create or replace function projector.evidence_rank(evidence smallint, about text) returns integer
    language sql immutable parallel safe
    return evidence / case about
        when 'attempts' then 100 when 'status' then 10 when 'created_at' then 1
    end % 10;
