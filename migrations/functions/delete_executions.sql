-- Retention deletes an execution that has been silent for long enough, completely and in one
-- transaction. The counters still count the deleted events.
--
-- Every count of events has two parts. The live part counts stored rows, and is in the shards from
-- 0 on. The archived part counts deleted rows, and is in shard -1 of every counter and roll-up, and
-- in archived_row_counts for the ledger. A view shows their sum. verify and repair compare and
-- correct only the live part, because nothing is left to rebuild the archived part from.
--
-- projector.delete_executions deletes all events of some executions. While it runs, the setting
-- projector.archiving is on, and the triggers on DELETE add to the archived part what they subtract
-- from the live part. The setting has no effect on an insert or an update, so a writer that sets it
-- changes nothing.
--
-- Two limits keep deleted events from being stored again. First, an event that Kafka received
-- before the horizon H (normalizer.retention_horizon.expired_before) is ignored in live traffic,
-- and stops a backfill that wasn't started with --accept-expired. Second, an execution is deleted
-- only if Kafka received its last event before H minus D, where D is some days. So a record that is
-- read again isn't counted twice, and neither are two reports of one event that are at most D
-- apart. If an event of a deleted execution arrives later than that, what this event says of its
-- execution or its call counts once more.
--
-- A separate transaction raises H first. Executions are deleted only when every transaction has
-- ended that may have read the earlier H (projector/maintenance/event_retention.py).

-- Deletes all events of these executions, and moves their counts from the live part of the counters
-- to the archived part. Returns the number of deleted events. The caller must first lock the
-- executions. A second statement must then lock their events, so that it sees what other
-- transactions had committed before the executions were locked.
create or replace function projector.delete_executions(execution_ids bigint[]) returns bigint
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
    set jit = off
as $$
declare
    deleted bigint;
begin
    perform set_config('projector.archiving', 'on', true);
    with gone as (
        delete from normalizer.events
        where  execution_id = any(delete_executions.execution_ids)
        returning source_topic, source_incarnation, source_partition, batch_id
    ),
    noted as (
        insert into normalizer.archived_row_counts as known (
            source_topic, source_incarnation, source_partition, job_id, run, events
        )
        select   source_topic, source_incarnation, source_partition, coalesce(written.job_id, ''),
                 coalesce(written.run, 0), count(*)
        from     gone
        left join normalizer.job_batches as written using (batch_id)
        group by 1, 2, 3, 4, 5
        order by 1, 2, 3, 4, 5
        on conflict (source_topic, source_incarnation, source_partition, job_id, run)
        do update set events = known.events + excluded.events
    )
    select count(*) into deleted from gone;
    perform set_config('projector.archiving', 'off', true);
    return deleted;
end
$$;

-- The function writes with the rights of its owner, so only projector maintain may call it.
-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.delete_executions(bigint[]) from public;
