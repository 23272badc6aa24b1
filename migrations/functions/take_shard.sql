-- Locks a counter shard for this transaction, and returns its number. Each shard has its own rows
-- in every counter, so concurrent transactions never update the same row. The function takes the
-- lowest shard that isn't locked, so a single writer always uses shard 0. If all shards are locked,
-- it waits for the last one, 63. 0004_create_projector.sql lists the shards.
--
-- A transaction calls this several times. It doesn't skip its own shard, so it gets the same one
-- again, or a lower one that has become free, and then holds both. Only a transaction without a
-- shard ever waits here. It has locked executions before, but the holder of 63 doesn't wait for
-- those, unless it writes events in another statement (normalizer/store/batch_plan.py avoids that).
create or replace function projector.take_shard() returns smallint
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    taken smallint;
begin
    select   shard
    into     taken
    from     shards
    where    shard >= 0
    order by shard
    limit    1
    for update skip locked;
    if taken is null then
        select shard into taken from shards where shard = 63 for update;
    end if;
    return taken;
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.take_shard() from public;
