-- Returns the microseconds from one moment to a later one. If the second moment is the earlier one,
-- the result is null.
create or replace function projector.microseconds_between(earlier timestamptz, later timestamptz)
    returns bigint
    language sql immutable parallel safe
    return case
        when later >= earlier then (date_part('epoch', later - earlier) * 1000000)::bigint
    end;
