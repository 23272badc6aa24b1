-- A heartbeat of a deleted position would override the first heartbeats of its successor.
create or replace function normalizer.drop_source_heartbeats() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, normalizer, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from source_heartbeats;
    else
        delete from source_heartbeats as reported
        using       gone
        where       (reported.topic, reported.partition, reported.incarnation)
                  = (gone.topic, gone.partition, gone.incarnation);
    end if;
    return null;
end
$$;

revoke execute on function normalizer.drop_source_heartbeats() from public;
