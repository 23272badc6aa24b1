-- Refusals are few, so an update subtracts every old row and adds every new one.
create or replace function projector.project_quarantine() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, projector, pg_temp
as $$
declare
    own_shard constant smallint := take_shard();
begin
    if current_setting('projector.off', true) = 'on' then
        -- Refusals are few, so a comparison of all hours finds the ones that differ.
        insert into divergences (projection, noted_by) values ('quarantine_hours', 'off');
        return null;
    end if;
    if tg_op <> 'INSERT' then
        insert into quarantine_hours as counted (hour, reason, shape, shard, refused)
        select   hour_of(quarantined_at), reason collate "C", shape collate "C", own_shard,
                 -count(*)
        from     before
        group by 1, 2, 3
        on conflict (hour, reason, shape, shard)
        do update set refused = counted.refused + excluded.refused;
    end if;
    if tg_op <> 'DELETE' then
        insert into quarantine_hours as counted (hour, reason, shape, shard, refused)
        select   hour_of(quarantined_at), reason collate "C", shape collate "C", own_shard,
                 count(*)
        from     after
        group by 1, 2, 3
        on conflict (hour, reason, shape, shard)
        do update set refused = counted.refused + excluded.refused;
    end if;
    return null;
end
$$;

revoke execute on function projector.project_quarantine() from public;
