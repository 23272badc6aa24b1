-- Returns the beginning of a ranked value. A ranked value is a text of 17 characters that sort by
-- time, followed by the value itself. So the least ranked value is the earliest one. If two values
-- have the same time, their bytes decide, and never an id. This function returns the 17 characters.
create or replace function projector.encode_time(moment timestamptz) returns text
    language sql immutable parallel safe
    return case when moment < '2000-01-01 00:00:00+00' then '0' else '1' end
           || encode(timestamptz_send(moment), 'hex');
