-- The minute that a moment lies in, UTC.
create or replace function projector.to_minute(moment timestamptz) returns timestamptz
    language sql immutable parallel safe
    return date_bin('1 minute', moment, '2000-01-01 00:00:00+00');
