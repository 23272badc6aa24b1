-- Takes a counter shard for this transaction, until it ends: the lowest free one, or else the last
-- one once it is free. A single writer uses one shard. Concurrent writers and jobs never update the
-- same row.
create or replace function projector.take_shard() returns smallint
    language plpgsql volatile
as $$
declare
    taken smallint;
begin
    select   shards.shard
    into     taken
    from     projector.shards
    where    shards.shard >= 0
    order by shards.shard
    limit    1
    for update skip locked;
    if taken is null then
        select shards.shard into taken from projector.shards where shards.shard = 63 for update;
    end if;
    return taken;
end
$$;

revoke execute on function projector.take_shard() from public;
