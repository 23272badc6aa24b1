-- Returns the beginning of a ranked value. A ranked value is a text that consists of an encoded
-- time of 17 characters and the value itself. Encoded times sort like the times, so the least
-- ranked value is the one with the earliest time. If two values have the same time, their bytes
-- decide, and never an id. This function returns the 17 characters.
create or replace function projector.encode_time(moment timestamptz) returns text
    language sql immutable parallel safe
    return case when moment < '2000-01-01 00:00:00+00' then '0' else '1' end
           || encode(timestamptz_send(moment), 'hex');
