-- Returns how the number of an attempt became known:
--     declared  the event that ended the attempt names it. While the attempt still runs, any of its
--               events may name it.
--     only      nothing hints at another attempt of the command
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
