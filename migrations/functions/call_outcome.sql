-- Returns how the attempt ended, according to the rank of the end that decides (end_rank).
create or replace function projector.call_outcome(outcome_ranked text) returns text
    language sql immutable parallel safe
    return case substr(outcome_ranked, 20, 1)
        when '0' then 'FAILED' when '1' then 'ERROR' when '2' then 'CANCELLED'
        when '3' then 'COMPLETED'
    end;
