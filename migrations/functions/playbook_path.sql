-- Returns the playbook's path from execution_facts.playbook_ranked, or an empty text while no event
-- has named the playbook.
create or replace function projector.playbook_path(playbook_ranked text[]) returns text
    language sql immutable parallel safe
    return coalesce(playbook_ranked[3], '');
