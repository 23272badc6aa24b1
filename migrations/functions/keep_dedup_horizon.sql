-- Keeps how far the deleted positions had got, in dedup_horizon.
create or replace function normalizer.keep_dedup_horizon() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, normalizer, pg_temp
as $$
begin
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
    return null;
end
$$;

revoke execute on function normalizer.keep_dedup_horizon() from public;
