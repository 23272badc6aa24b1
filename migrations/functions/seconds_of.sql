-- The middle of a bucket of bucket_of, in seconds.
create or replace function projector.seconds_of(bucket integer) returns double precision
    language sql immutable parallel safe
    return case
        when bucket < 0 then 0
        else power(2::double precision, (bucket + 0.5::double precision) / 8) / 1000000
    end;
