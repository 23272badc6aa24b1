-- Returns the histogram bucket of a duration. Bucket b holds 2^(b/8) up to 2^((b+1)/8)
-- microseconds, so its middle is at most 4.5 % off. Bucket -1 holds zero. All histograms have the
-- same buckets, so those of different hours and keys can be added up.
create or replace function projector.duration_bucket(microseconds bigint) returns smallint
    language sql immutable parallel safe
    return case
        when microseconds > 0
        then floor(8 * ln(microseconds::double precision) / ln(2::double precision))
        else -1
    end::smallint;
