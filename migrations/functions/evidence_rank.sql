-- Reads how well a column of an event is known, from its column `evidence`: 0, 1, or 2. The column is
-- attempts, status, or created_at, which are the digits from left to right. Python's twin is
-- Evidence in normalizer/core/evidence.py.
create or replace function projector.evidence_rank(evidence smallint, about text) returns integer
    language sql immutable parallel safe
    return evidence / case about
        when 'attempts' then 100 when 'status' then 10 when 'created_at' then 1
    end % 10;
