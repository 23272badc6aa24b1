-- Takes three columns of call_facts. Returns how the number of the attempt, its column `attempts`,
-- became known:
--     declared  the end that decides how the attempt ended (end_rank) names the number. If the
--               attempt is still running, it's enough that any of its events names it.
--     only      the number isn't declared, but nothing hints that the command has another attempt
--     inferred  the number was derived from the order of the events (resolve_attempts)
-- The view calls shows it as `attribution`, and finished_calls whether it's `inferred`.
--
-- For example, a command was issued, failed, was issued again, and completed. If no event names a
-- number, both attempts are `inferred`. If only the completion names the number 1, attempt 1 is
-- `declared`, and attempt 0 stays `inferred`.
create or replace function projector.attempt_number_source(
    outcome_ranked text, is_numbered boolean, may_be_retried boolean
)
    returns text
    language sql immutable parallel safe
    return case
        when coalesce(
                 substr(outcome_ranked, 21) = '0', -- what follows the rank in end_rank
                 is_numbered
             ) then 'declared'
        when may_be_retried then 'inferred'
        else 'only'
    end;
