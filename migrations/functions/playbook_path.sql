-- Returns the path of an execution's playbook, which is a part of execution_facts.playbook_ranked.
-- If no event has named the playbook yet, the result is an empty text.
create or replace function projector.playbook_path(playbook_ranked text[]) returns text
    language sql immutable parallel safe
    return coalesce(playbook_ranked[3], '');
