-- Returns the path of an execution's playbook, which is part of execution_facts.playbook_ranked.
-- Returns an empty text if no event has named the playbook yet.
create or replace function projector.playbook_path(playbook_ranked text[]) returns text
    language sql immutable parallel safe
    return coalesce(playbook_ranked[3], '');
