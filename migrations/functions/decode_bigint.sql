-- Returns the number that report_on_call has written as text. The text is in hex, so that it sorts
-- like the number. If the text isn't such a number, the result is null, because one damaged row
-- must not fail a query over all others.
create or replace function projector.decode_bigint(encoded text) returns bigint
    language sql immutable parallel safe
    return case
        when translate(encoded, '0123456789abcdef', '') = ''
        then ('x' || encoded)::bit(64)::bigint
    end;
