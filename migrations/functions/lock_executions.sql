-- Locks the executions that nobody else has locked, and returns their ids. A caller that deletes
-- executions calls it before it reads what it will delete.
--
-- It locks shard -1 first, so that one transaction at a time adds to the archived part: two would
-- update the same rows of the counters, each in its own order. It waits for that lock only, while
-- the transaction holds nothing that a writer may need.
create or replace function projector.lock_executions(execution_ids bigint[]) returns bigint[]
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    perform from shards where shards.shard = -1 for update;
    return array(
        select   execution_id
        from     execution_facts
        where    execution_id = any(lock_executions.execution_ids)
        order by execution_id
        for update skip locked
    );
end
$$;

-- A caller blocks writers, so only projector maintain may call it.
revoke execute on function projector.lock_executions(bigint[]) from public;
