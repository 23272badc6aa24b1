-- A ranked value is text: 17 characters that sort by time, and then the value. So the least ranked
-- value is the earliest one, and of two at the same time the bytes of the values decide, never an
-- id. encode_time gives the 17 characters.
create or replace function projector.encode_time(moment timestamptz) returns text
    language sql immutable parallel safe
    return case when moment < '2000-01-01 00:00:00+00' then '0' else '1' end
           || encode(timestamptz_send(moment), 'hex');
