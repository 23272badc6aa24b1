-- How the number of an attempt is known: the end that decides names it (or, while the attempt
-- runs, any event), nothing hints at another attempt of its command, or it was inferred.
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
