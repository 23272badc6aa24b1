-- Returns a percentile of a histogram, in seconds. For example, with a `fraction` of 0.95, 95 % of
-- the calls took at most that long.
create or replace aggregate projector.percentile(
    fraction double precision, bucket integer, calls bigint
) (
    sfunc     = projector.percentile_transition,
    stype     = double precision[],
    initcond  = '{}',
    finalfunc = projector.percentile_final,
    parallel  = safe
);
