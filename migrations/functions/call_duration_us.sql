-- Reads a ranked duration: the microseconds after its rank, which is who reported it and when.
create or replace function projector.call_duration_us(duration_ranked text) returns bigint
    language sql immutable parallel safe
    return projector.decode_bigint(substr(duration_ranked, 19));
