-- Runs before and after positions are deleted, which operators do to have a topic read again:
--     before: stores in dedup_horizon how far each position had got, so that records aren't stored
--             twice when they're read again
--     after: deletes the heartbeats whose position is gone, because they would override the first
--            heartbeats of the new position
create or replace function normalizer.handle_deleted_positions() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, normalizer, pg_temp
as $$
begin
    if tg_when = 'BEFORE' then
        insert into dedup_horizon as kept (
            topic, incarnation, partition, next_offset, cluster_id, last_offset, last_recorded_ms,
            last_crc
        )
        select   topic, incarnation, partition, dedup_offset, cluster_id, last_offset,
                 last_recorded_ms, last_crc
        from     source_positions
        order by topic, incarnation, partition
        on conflict on constraint dedup_horizon_pkey do update
        set    next_offset      = greatest(kept.next_offset, excluded.next_offset),
               cluster_id       = excluded.cluster_id,
               last_offset      = excluded.last_offset,
               last_recorded_ms = excluded.last_recorded_ms,
               last_crc         = excluded.last_crc;
    else
        delete from source_heartbeats as reported
        where       (reported.topic, reported.partition, reported.incarnation) not in (
                        select topic, partition, incarnation from source_positions
                    );
    end if;
    return null;
end
$$;

revoke execute on function normalizer.handle_deleted_positions() from public;
