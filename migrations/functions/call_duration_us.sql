-- Returns the microseconds in a ranked duration. They follow its rank, which tells who reported the
-- duration and when.
create or replace function projector.call_duration_us(duration_ranked text) returns bigint
    language sql immutable parallel safe
    return projector.decode_bigint(substr(duration_ranked, 19));
