-- Text that sorts like the number, for numbers from 0.
create or replace function projector.encode_bigint(number bigint) returns text
    language sql immutable parallel safe
    return encode(int8send(number), 'hex');
