-- The seconds that this fraction of the calls of a histogram stays under.
create or replace aggregate projector.percentile(
    fraction double precision, bucket integer, calls bigint
) (
    sfunc     = projector.percentile_add,
    stype     = double precision[],
    initcond  = '{}',
    finalfunc = projector.percentile_found,
    parallel  = safe
);
