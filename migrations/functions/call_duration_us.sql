-- The duration after who reported it and when, in microseconds.
create or replace function projector.call_duration_us(duration_ranked text) returns bigint
    language sql immutable parallel safe
    return projector.decode_bigint(substr(duration_ranked, 19));
