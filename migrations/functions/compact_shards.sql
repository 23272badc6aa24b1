-- Moves the counts of all other live shards to shard 0, so that readers have fewer rows to sum.
-- Call it only for a time range in which writers no longer count. The function waits for the
-- transactions that hold one of these shards. New transactions take other shards in the meantime,
-- so they don't wait for it. Returns the number of deleted rows.
create or replace function projector.compact_shards(
    counter_table text, time_column text, since timestamptz, until timestamptz
) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    compacting smallint[];
    keys       text;
    measures   text;
    sums       text;
    adds       text;
    aggregated bigint;
begin
    execute format(
        'select array_agg(distinct shard order by shard) from %1$I '
        'where %2$I >= $1 and %2$I < $2 and shard > 0',
        counter_table, time_column
    )
    into  compacting
    using since, until;
    if compacting is null then
        return 0;
    end if;
    perform
    from     projector.shards
    where    shards.shard = any(0::smallint || compacting)
    order by shards.shard
    for update;
    select string_agg(quote_ident(attname), ', ' order by attnum)
               filter (where attnum = any(conkey)),
           string_agg(quote_ident(attname), ', ' order by attnum)
               filter (where attnum <> all(conkey)),
           string_agg(format('sum(%I)', attname), ', ' order by attnum)
               filter (where attnum <> all(conkey)),
           string_agg(format('%1$I = counted.%1$I + excluded.%1$I', attname), ', ')
               filter (where attnum <> all(conkey))
    into   keys, measures, sums, adds
    from   pg_attribute
    join   pg_constraint on conrelid = attrelid and contype = 'p'
    where  attrelid = compact_shards.counter_table::regclass
    and    attnum > 0
    and    not attisdropped
    and    attname <> 'shard';
    execute format(
        'with gone as ('
        '    delete from %1$I where %2$I >= $1 and %2$I < $2 and shard = any($3) returning *'
        '), added as ('
        '    insert into %1$I as counted (%3$s, shard, %4$s)'
        '    select %3$s, 0, %5$s from gone group by %3$s'
        '    on conflict (%3$s, shard) do update set %6$s'
        ') select count(*) from gone',
        counter_table, time_column, keys, measures, sums, adds
    )
    into aggregated
    using since, until, compacting;
    return aggregated;
end
$$;

-- The function writes with the rights of its owner, so only projector maintain may call it.
-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.compact_shards(
    text, text, timestamptz, timestamptz
) from public;
