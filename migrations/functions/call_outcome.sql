-- Takes the outcome_ranked of an attempt, or another text that begins with the rank of an end
-- (end_rank). Returns the outcome of that end: FAILED, ERROR, CANCELLED, or COMPLETED. If the
-- attempt has no end yet, both are null. Views call this, and functions that look for the end of an
-- attempt. For example, `2 0 10002f93cbbf3060a 3 1`, without the spaces, gives COMPLETED.
create or replace function projector.call_outcome(outcome_ranked text) returns text
    language sql immutable parallel safe
    return case substr(outcome_ranked, 20, 1) -- outcome in end_rank
        when '0' then 'FAILED' when '1' then 'ERROR' when '2' then 'CANCELLED'
        when '3' then 'COMPLETED'
    end;
