-- Reads a number that report_on_call wrote in hex, so that the text sorts like the number. It's null
-- for a text that isn't a number, because one damaged row must not fail a query over all others.
create or replace function projector.decode_bigint(encoded text) returns bigint
    language sql immutable parallel safe
    return case
        when translate(encoded, '0123456789abcdef', '') = ''
        then ('x' || encoded)::bit(64)::bigint
    end;
