create or replace function normalizer.note_event_changes() returns trigger
    language plpgsql volatile security definer
    set search_path = pg_catalog, normalizer, pg_temp
as $$
begin
    if exists (select from relay_registration) then
        insert into event_changes (event_ids)
        select   array_agg(event_id)
        from     (
                     select event_id, (row_number() over () - 1) / 1000 as chunk
                     from   after
                 ) as changed
        group by chunk;
    end if;
    return null;
end
$$;

comment on function normalizer.note_event_changes() is
    'Notes the events that a statement inserted or updated, while a relay is registered.';

revoke execute on function normalizer.note_event_changes() from public;
