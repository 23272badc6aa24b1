-- Returns how an event's attempts, status, or created_at became known: 0, 1, or 2. These are the
-- three digits of the column `evidence`, from left to right, whose comment says what each digit
-- means. Evidence in normalizer/core/evidence.py is the same in Python.
create or replace function projector.evidence_rank(evidence smallint, about text) returns integer
    language sql immutable parallel safe
    return evidence / case about
        when 'attempts' then 100 when 'status' then 10 when 'created_at' then 1
    end % 10;
