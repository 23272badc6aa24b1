-- Returns the microseconds from a ranked duration. Its text begins with a rank, which tells who
-- reported the duration and when, and the microseconds follow that rank.
create or replace function projector.call_duration_us(duration_ranked text) returns bigint
    language sql immutable parallel safe
    return projector.decode_bigint(substr(duration_ranked, 19));
