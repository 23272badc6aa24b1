-- Returns the first 17 characters of a ranked value. They encode a time, and the value itself
-- follows them. Encoded times sort like the times, so the least ranked value is the one with the
-- earliest time. If two values have the same time, the one whose own bytes sort first is the least.
create or replace function projector.encode_time(moment timestamptz) returns text
    language sql immutable parallel safe
    return case when moment < '2000-01-01 00:00:00+00' then '0' else '1' end
           || encode(timestamptz_send(moment), 'hex');
