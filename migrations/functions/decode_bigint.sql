-- The inverse of encode_bigint. It is null for a text that isn't a number, because one damaged row
-- must not fail a query over all others.
create or replace function projector.decode_bigint(encoded text) returns bigint
    language sql immutable parallel safe
    return case
        when translate(encoded, '0123456789abcdef', '') = ''
        then ('x' || encoded)::bit(64)::bigint
    end;
