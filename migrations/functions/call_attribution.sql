-- Returns how the number of an attempt became known:
--     declared  the event that ended the attempt names the number. If the attempt is still running,
--               it's enough that any of its events names it.
--     only      the number isn't declared, but nothing hints that the command has another attempt
--     inferred  the number was derived from the order of the events
create or replace function projector.call_attribution(
    outcome_ranked text, is_numbered boolean, may_be_retried boolean
)
    returns text
    language sql immutable parallel safe
    return case
        when coalesce(substr(outcome_ranked, 21) = '0', is_numbered) then 'declared'
        when may_be_retried then 'inferred'
        else 'only'
    end;
