-- Returns the microseconds from one moment to a later one, or null if the second one is earlier.
create or replace function projector.microseconds_between(earlier timestamptz, later timestamptz)
    returns bigint
    language sql immutable parallel safe
    return case
        when later >= earlier then (date_part('epoch', later - earlier) * 1000000)::bigint
    end;
