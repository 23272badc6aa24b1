-- Returns the number that call_facts_from_event has written at the end of a ranked value, in 16
-- hexadecimal digits, because these sort in the same order as the number. If they aren't such digits,
-- the result is null instead of an error, because one damaged row must not break a query over all
-- others.
create or replace function projector.ranked_value_as_bigint(ranked text) returns bigint
    language sql immutable parallel safe
    return case
        when ltrim(right(ranked, 16), '0123456789abcdef') = ''
        then ('x' || right(ranked, 16))::bit(64)::bigint
    end;
