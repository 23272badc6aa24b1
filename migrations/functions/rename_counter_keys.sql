-- Renames keys of a counter, such as the names of steps, after a redaction has changed these texts.
-- The archived counts of old_values[i] are added to those of new_values[i]. No event and no call
-- has an old text any more, so its live counts are 0. All rows with an old text are deleted, and
-- the function returns their number.
--
-- One call renames only the counts from `since` to `until`, because it locks the shards that have
-- such counts, and should hold the locks for a short time. It waits for transactions that are
-- counting in these shards, and later ones wait for it.
--     1. lock the shards
--     2. build the lists of columns
--     3. move the counts
create or replace function projector.rename_counter_keys(
    counter_table text, text_column text, time_column text, since timestamptz, until timestamptz,
    old_values text[], new_values text[]
) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    named constant text := format(
        'gone.%I = any($1) and gone.%I > $3 and gone.%2$I <= $4', text_column, time_column
    );
    used  smallint[];
    keys  text;
    now   text;
    sums  text;
    adds  text;
    idle  text;
    names text;
    went  bigint;
begin
    -- 1. The shards.
    execute format(
        'select array_agg(distinct shard) from %I as gone where %s', counter_table, named
    )
    into  used
    using old_values, new_values, since, until;
    perform
    from     projector.shards
    where    shards.shard = any(0::smallint || used)
    order by shards.shard
    for update;

    -- 2. The columns: keys, and measures that are summed.
    select string_agg(format('gone.%I', attname), ', ' order by attnum)
               filter (where attnum = any(conkey)),
           string_agg(
               case attname when rename_counter_keys.text_column then 'renamed.now'
                            else format('gone.%I', attname) end,
               ', ' order by attnum
           ) filter (where attnum = any(conkey)),
           string_agg(quote_ident(attname), ', ' order by attnum)
               filter (where attnum <> all(conkey)),
           string_agg(format('sum(gone.%I)', attname), ', ' order by attnum)
               filter (where attnum <> all(conkey)),
           string_agg(format('%1$I = counted.%1$I + excluded.%1$I', attname), ', ')
               filter (where attnum <> all(conkey)),
           string_agg(format('sum(gone.%I) = 0', attname), ' and ')
               filter (where attnum <> all(conkey))
    into   keys, now, names, sums, adds, idle
    from   pg_attribute
    join   pg_constraint on conrelid = attrelid and contype = 'p'
    where  attrelid = rename_counter_keys.counter_table::regclass
    and    attnum > 0
    and    not attisdropped
    and    attname <> 'shard';
    -- 3. The counts.
    execute format(
        'with idle as ('
        '    select %2$s from %1$I as gone where %10$s and gone.shard >= 0'
        '    group by %2$s having %8$s'
        '), gone as ('
        '    delete from %1$I as gone where %10$s'
        '    and (gone.shard < 0 or (%2$s) in (select * from idle)) returning *'
        '), added as ('
        '    insert into %1$I as counted (%9$s, shard, %5$s)'
        '    select %4$s, gone.shard, %6$s'
        '    from gone join unnest($1, $2) as renamed (was, now) on renamed.was = gone.%3$I'
        '    where gone.shard < 0'
        '    group by %4$s, gone.shard'
        '    on conflict (%9$s, shard) do update set %7$s'
        ') select count(*) from gone',
        counter_table, keys, text_column, now, names, sums, adds, idle, replace(keys, 'gone.', ''),
        named
    )
    into  went
    using old_values, new_values, since, until;
    return went;
end
$$;

-- The function writes with the rights of its owner, so only normalizer redact may call it.
-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.rename_counter_keys(
    text, text, text, timestamptz, timestamptz, text[], text[]
) from public;
