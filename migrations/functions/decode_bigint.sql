-- Returns the number that call_facts_from_event has written as text. The text is hexadecimal,
-- because it then sorts in the same order as the number. If a text isn't such a number, the result
-- is null instead of an error, because one damaged row must not break a query over all others.
create or replace function projector.decode_bigint(encoded text) returns bigint
    language sql immutable parallel safe
    return case
        when ltrim(encoded, '0123456789abcdef') = ''
        then ('x' || encoded)::bit(64)::bigint
    end;
