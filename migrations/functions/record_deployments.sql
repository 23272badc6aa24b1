-- Stores when the first execution of each version of a playbook began (deployment_marks). An
-- execution is ignored if the event that begins it doesn't name the playbook, or if its version is
-- already stored with the same or an earlier time.
create or replace function projector.record_deployments(moved projector.execution_recount[])
    returns void
    language plpgsql volatile
    set search_path = pg_catalog, projector, pg_temp
as $$
begin
    insert into deployment_marks (playbook, version, first_at)
    select sighted.playbook, sighted.version, sighted.first_at
    from   (
               select   playbook_path(playbook_ranked) as playbook,
                        playbook_ranked[4] as version, min(begin_at) as first_at
               from     unnest(record_deployments.moved)
               where    playbook_ranked is distinct from was_playbook_ranked
               and      playbook_ranked[1] = '0'
               and      begin_at is not null
               group by 1, 2
           ) as sighted
    where  not exists (
               select
               from   deployment_marks as known
               where  known.playbook = sighted.playbook
               and    known.version = sighted.version
               and    known.first_at <= sighted.first_at
           );
end
$$;

-- 0004_create_projector.sql says which functions are revoked.
revoke execute on function projector.record_deployments(projector.execution_recount[]) from public;
