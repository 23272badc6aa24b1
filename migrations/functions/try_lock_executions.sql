-- Locks these executions, except for those that another transaction has locked, and returns the ids
-- of the locked ones. Call it before reading the rows that will be deleted with the executions.
--
-- The function first locks shard -1, so that only one transaction at a time adds to the archived
-- part. Otherwise two transactions could update the same rows of the counters in different orders,
-- and deadlock. Waiting for this lock is safe, because the transaction doesn't hold any lock yet
-- that a writer may need. The function waits for no other lock.
create or replace function projector.try_lock_executions(execution_ids bigint[]) returns bigint[]
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    perform from shards where shards.shard = -1 for update;
    return array(
        select   execution_id
        from     execution_facts
        where    execution_id = any(try_lock_executions.execution_ids)
        order by execution_id
        for update skip locked
    );
end
$$;

-- A caller blocks writers, so only projector maintain may call it.
-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.try_lock_executions(bigint[]) from public;
